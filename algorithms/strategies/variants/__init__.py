"""Diffusion with momentum, sharpness-aware gradients or robust combination."""
