"""Normalised and clipped SGD: one norm per agent, over all of its parameters."""
