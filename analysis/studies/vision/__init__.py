"""Strategies compared on images and videos."""
