"""Challenges: submissions scored by the published protocol, and ranked."""
