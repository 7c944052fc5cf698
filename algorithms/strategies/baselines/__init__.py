"""The baselines: isolated, centralised, consensus, diffusion."""
