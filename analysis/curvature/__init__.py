"""Curvature of the loss: products with the Hessian and its relatives, spectra, traces."""
