"""Summaries over replicas, paired differences, survival."""
