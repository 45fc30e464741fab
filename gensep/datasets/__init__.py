"""What is trained and evaluated on: songs, spectrograms, images, and their augmentation."""
