"""From a mixture to its sources: samplers, settings, posterior sampling, separation of files."""
