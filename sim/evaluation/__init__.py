"""Evaluation of a model on the data of a task: losses, metrics and trivial baselines."""
