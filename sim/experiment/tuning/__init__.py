"""Tuning: a description of what is tuned, and the runs that it stands for."""
