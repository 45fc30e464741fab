"""The test bed on images: pairs of images mixed, separated by priors, and scored."""
