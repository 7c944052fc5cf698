"""Spectra of graphs and mixing matrices, and what they say about consensus."""
