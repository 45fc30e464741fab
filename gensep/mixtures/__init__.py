"""Data sets of mixtures with their sources: drawn from waves as training asks, or feature files."""
