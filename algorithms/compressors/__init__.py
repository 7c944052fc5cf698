"""Compressors of what agents send: each maps rows to rows, with the bytes of one as it would travel."""

from basinet.algorithms.compressors.compressor import COMPRESSORS, Compressor, Layers

__all__ = ["COMPRESSORS", "Compressor", "Layers"]

COMPRESSORS.fill(__name__)
