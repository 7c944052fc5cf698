"""Normalised and clipped SGD: one norm an agent, over all of its parameters."""
