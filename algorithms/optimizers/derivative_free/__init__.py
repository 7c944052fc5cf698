"""Optimizers that evaluate losses and no gradients."""
