"""Hierarchical transformers for images and videos, pre-trained by what is masked."""
