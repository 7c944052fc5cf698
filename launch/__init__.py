"""The way in: command line, experiment files, Python interface."""
