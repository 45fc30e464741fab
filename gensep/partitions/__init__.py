"""Partitions of data for semi-supervised training: what is paired, what is not, what is held out."""
