"""Compiled loops, kept on disk between processes."""

from collections.abc import Callable
from typing import Any

__all__ = ["kept"]


def kept(compile_: Callable[..., Callable[..., Any]]) -> Callable[..., Any]:
    """Compile a function, and cache the result on disk if possible.

    Args:
        compile_: Compiles it by numba, with further options.

    Returns:
        The function, compiled on its first call.
    """
    try:
        return compile_(cache=True)
    except RuntimeError:  # neither the package's folder nor the user's cache is writable
        return compile_()
