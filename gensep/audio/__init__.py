"""Sound on disk: reading and writing in blocks, several stems at once, streams of MP4 files."""
