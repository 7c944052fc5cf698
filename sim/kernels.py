"""Compiled loops for the CPU: what torch has no kernel for that comes near the speed of memory."""

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["mix", "pad"]

_COLUMNS = 2048
"""Columns that are mixed at a time: a piece of a row that stays in the first cache."""


def pad(weights: csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Lengthen the rows of a sparse matrix to multiples of four entries, for `mix`.

    Args:
        weights: Sparse matrix.

    Returns:
        Starts of the rows, columns, weights: as in the CSR format, with zero weights on columns that a row has.
    """
    if weights.nnz == 0:
        return np.zeros(weights.shape[0] + 1, np.int64), np.zeros(0, np.int64), np.zeros(0)
    lengths = np.diff(weights.indptr)
    starts = np.concatenate([[0], np.cumsum(-(-lengths // 4) * 4)]).astype(np.int64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = starts[row] + np.arange(weights.nnz) - weights.indptr[row]
    first = weights.indices[np.minimum(weights.indptr[:-1], weights.nnz - 1)].astype(np.int64)
    columns = np.repeat(first, np.diff(starts))
    values = np.zeros(starts[-1])
    columns[place], values[place] = weights.indices, weights.data
    return starts, columns, values


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function when it is first called, and keep what comes out where there is a place for it."""
    options = {"nogil": True, "fastmath": {"contract"}}
    try:
        kept: Callable[..., None] = njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        kept = njit(**options)(function)
    return kept


@_compiled
def mix(starts, columns, weights, x, out, add):  # type: ignore[no-untyped-def]
    """Compute out ← W x, or out ← out + W x.

    Four neighbours are read side by side: their rows arrive from memory together, and the sum is written once.

    Args:
        starts: Where each row of W starts, from `pad`.
        columns: Columns of the entries.
        weights: The entries, in the type of `x`.
        x: [L, P].
        out: [K, P], another array than `x`.
        add: Whether to add to what `out` holds.
    """
    for left in range(0, x.shape[1], _COLUMNS):
        right = min(left + _COLUMNS, x.shape[1])
        for k in range(len(out)):
            y = out[k, left:right]
            if starts[k] == starts[k + 1] and not add:
                y[:] = 0
            for j in range(starts[k], starts[k + 1], 4):
                a, b, c, d = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
                xa = x[columns[j], left:right]
                xb = x[columns[j + 1], left:right]
                xc = x[columns[j + 2], left:right]
                xd = x[columns[j + 3], left:right]
                if add or j > starts[k]:
                    for i in range(right - left):
                        y[i] += a * xa[i] + b * xb[i] + c * xc[i] + d * xd[i]
                else:
                    for i in range(right - left):
                        y[i] = a * xa[i] + b * xb[i] + c * xc[i] + d * xd[i]
