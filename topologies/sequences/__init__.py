"""Sequences of graphs, which change from step to step and repeat."""
