"""Figures and tables of a report of images and videos."""
