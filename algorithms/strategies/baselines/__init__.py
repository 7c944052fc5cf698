"""The strategies that others are compared with: alone, centralised, consensus, diffusion."""
