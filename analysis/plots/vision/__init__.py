"""Figures of images and videos."""
