"""Compiled CPU loops where no torch kernel comes close to memory bandwidth."""

from functools import partial

from basinet.algorithms.row_kernels import compiled

__all__ = ["mix"]

_COLUMNS = 2048
"""Columns that are mixed at a time: a piece of a row that fits the first-level cache."""


@partial(compiled, fuse=False)  # for the same numbers as NumPy
def mix(starts, columns, weights, x, own, sums, out, add):  # type: ignore[no-untyped-def]
    """Compute out[k] ← s[k] own[k] + Σ_j w[k, j] (x[j] − own[k]), or add the sum to what `out` holds.

    With s the row sums of W, this is W x; written with differences, rows that agree stay as they are, however the
    weights are rounded. Four neighbours, or the last two, are read together, so that their rows are fetched in parallel
    and the sum is written once.

    Args:
        starts: Where each row of W starts, from `sparse_products.pad`.
        columns: Columns of the entries.
        weights: The entries, in the type of `x`; diagonal ones have no effect.
        x: [L, P].
        own: [K, P].
        sums: The row sums s of W, [K].
        out: [K, P], not the same array as `x` or `own`.
        add: Whether to add to what `out` holds.
    """
    for left in range(0, x.shape[1], _COLUMNS):
        right = min(left + _COLUMNS, x.shape[1])
        for k in range(len(out)):
            y = out[k, left:right]
            z = own[k, left:right]
            s = sums[k]
            if starts[k] == starts[k + 1] and not add:
                for i in range(right - left):
                    y[i] = s * z[i]
            j = starts[k]
            while j < starts[k + 1]:
                first = j == starts[k] and not add
                a, b = weights[j], weights[j + 1]
                xa, xb = x[columns[j], left:right], x[columns[j + 1], left:right]
                if j + 2 == starts[k + 1]:
                    if first:
                        for i in range(right - left):
                            y[i] = s * z[i] + (a * (xa[i] - z[i]) + b * (xb[i] - z[i]))
                    else:
                        for i in range(right - left):
                            y[i] += a * (xa[i] - z[i]) + b * (xb[i] - z[i])
                    break
                c, d = weights[j + 2], weights[j + 3]
                xc, xd = x[columns[j + 2], left:right], x[columns[j + 3], left:right]
                if first:
                    for i in range(right - left):
                        near = a * (xa[i] - z[i]) + b * (xb[i] - z[i])
                        y[i] = s * z[i] + (near + (c * (xc[i] - z[i]) + d * (xd[i] - z[i])))
                else:
                    for i in range(right - left):
                        near = a * (xa[i] - z[i]) + b * (xb[i] - z[i])
                        y[i] += near + (c * (xc[i] - z[i]) + d * (xd[i] - z[i]))
                j += 4
