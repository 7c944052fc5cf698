"""Strategies that send few bytes: compressed rows, low rank, coordinates in subspaces."""
