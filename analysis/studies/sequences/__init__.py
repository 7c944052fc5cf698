"""Attention on long sequences: accuracy, time and memory."""
