"""Combination policies: rules that turn a graph into a mixing matrix."""
