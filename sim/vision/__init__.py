"""Pixels: the files, colours, sizes and faults of images and videos, and how close one is to another."""
