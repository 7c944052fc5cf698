"""Measurement of the states of runs."""
