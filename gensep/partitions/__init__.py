"""Partitions of data for semi-supervised training: paired, unpaired and held-out recordings."""
