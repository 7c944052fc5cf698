"""Figures of comparisons: groups of replicas instead of single runs."""
