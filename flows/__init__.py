"""Normalizing flows: the place of exact-likelihood priors; they will satisfy `basis.Prior`."""
