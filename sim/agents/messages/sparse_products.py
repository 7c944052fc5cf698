"""Products of sparse matrices and rows on the CPU, by NumPy for a start and by compiled loops from then on.

Both compute the same numbers, to the last bit, so that a product does not depend on what was computed before.
"""

import sys

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["mix", "mix_by_numpy", "pad"]

_CALL = 2**12
"""Numbers that NumPy multiplies in the time that its calls for one entry of W take."""

_WORTH = 2**27
"""Numbers that NumPy multiplies in about the time that numba takes to load."""

_multiplied = 0
"""Numbers so far, with those that calls stand for: a short run needs no more than NumPy computes while numba loads."""


def pad(weights: csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pad the rows of a sparse matrix to multiples of two entries, for `mix`.

    Args:
        weights: Sparse matrix.

    Returns:
        Row starts, columns and weights as in the CSR format; the padding has zero weight, in columns of the row.
    """
    if weights.nnz == 0:
        return np.zeros(weights.shape[0] + 1, np.int64), np.zeros(0, np.int64), np.zeros(0)
    lengths = np.diff(weights.indptr)
    starts = np.concatenate([[0], np.cumsum(-(-lengths // 2) * 2)]).astype(np.int64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = starts[row] + np.arange(weights.nnz) - weights.indptr[row]
    first = weights.indices[np.minimum(weights.indptr[:-1], weights.nnz - 1)].astype(np.int64)
    columns = np.repeat(first, np.diff(starts))
    values = np.zeros(starts[-1])
    columns[place], values[place] = weights.indices, weights.data
    return starts, columns, values


def mix(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    weights: NDArray[np.floating],
    x: NDArray[np.floating],
    own: NDArray[np.floating],
    sums: NDArray[np.floating],
    out: NDArray[np.floating],
    add: bool,
) -> None:
    """Compute out[k] ← s[k] own[k] + Σ_j w[k, j] (x[j] − own[k]), or add the sum; see `mixing_kernels.mix`."""
    global _multiplied
    if "basinet.algorithms.row_kernels" not in sys.modules:
        _multiplied += int(starts[-1] - starts[0]) * (_CALL + x.shape[1])
        if _multiplied <= _WORTH:
            mix_by_numpy(starts, columns, weights, x, own, sums, out, add)  # type: ignore[no-untyped-call]
            return
    from basinet.sim.agents.messages import mixing_kernels  # imports numba, which is slow

    mixing_kernels.mix(starts, columns, weights, x, own, sums, out, add)


def mix_by_numpy(starts, columns, weights, x, own, sums, out, add):  # type: ignore[no-untyped-def]
    """Compute the product with the roundings of `mixing_kernels.mix`, in its order."""
    for k, (y, z) in enumerate(zip(out, own, strict=True)):
        if not add:
            np.multiply(sums[k], z, out=y)
        for j in range(starts[k], starts[k + 1], 4):
            parts = [weights[i] * (x[columns[i]] - z) for i in range(j, min(j + 4, starts[k + 1]))]
            near = parts[0] + parts[1]
            y += near + (parts[2] + parts[3]) if len(parts) == 4 else near
