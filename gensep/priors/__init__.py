"""Prior files, the networks and flows they hold, samples and likelihoods of a prior alone."""
