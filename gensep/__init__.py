"""Source separation with generative priors."""

__version__ = "0.1.0"
