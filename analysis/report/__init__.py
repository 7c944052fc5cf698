"""The report of an experiment, and the pages of studies."""
