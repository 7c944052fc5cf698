"""Models of sequences: S³Attention, and what it is compared to."""
