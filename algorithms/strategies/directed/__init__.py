"""Strategies for directed graphs."""
