"""Bias-corrected strategies: agents with heterogeneous data converge to the minimum of the mean loss."""
