"""From a mixture to its sources: samplers, settings, posterior sampling, runs of files."""
