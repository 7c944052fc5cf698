"""Strategies whose agents act at events: when a gradient is finished, or a message arrives."""
