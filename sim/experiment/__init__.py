"""The experiment: its components, keys, grid of runs, and how users' objects are told apart."""
