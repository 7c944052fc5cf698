"""Compressors of what agents send: each maps rows to rows, and counts the bytes of one on the wire."""

from basinet.algorithms.compressors.compressor import COMPRESSORS, Compressor, Layers

__all__ = ["COMPRESSORS", "Compressor", "Layers"]

COMPRESSORS.fill(__name__)
