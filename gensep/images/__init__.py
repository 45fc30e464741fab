"""Tests on images: images are mixed, separated by priors and compared with the truth."""
