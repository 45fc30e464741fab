"""Networks that were trained on mixtures: they map a mixture to its sources."""
