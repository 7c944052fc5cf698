"""Checkpoints: their files, and when and how a run writes them beside its training."""
