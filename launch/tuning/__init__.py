"""Tuning: candidates are searched on validation data, and the best of them chosen."""
