"""Strategies whose agents communicate now and then."""
