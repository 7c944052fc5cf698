"""Strategies whose agents communicate intermittently."""
