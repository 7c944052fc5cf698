"""The experiment: its components, keys and grid of runs, and digests of users' objects."""
