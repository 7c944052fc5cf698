"""Optimizers whose state lives in subspaces of the matrices."""
