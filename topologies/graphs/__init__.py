"""Families of graphs that stay as they are from step to step."""
