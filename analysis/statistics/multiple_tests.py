"""Several tests at once."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["holm"]


def holm(p: ArrayLike, level: float = 0.05) -> NDArray[np.bool_]:
    """Find the significant ones of several tests by Holm's method, with a family-wise error rate of at most `level`.

    Args:
        p: The p-values, [n]; NaN for tests that could not be made, which are not counted.
        level: The family-wise error rate.

    Returns:
        Whether each is significant, [n] (Holm: A simple sequentially rejective multiple test procedure, Scand. J.
        Statist. 6, 1979).

    Example:
        >>> holm([0.03, 0.001, 0.02, float("nan")]).tolist()
        [True, True, True, False]
        >>> holm([0.03, 0.001, 0.04]).tolist()
        [False, True, False]
    """
    values = np.asarray(p, dtype=float)
    tested = int(np.isfinite(values).sum())
    order = np.argsort(values)[:tested]  # NaNs come last
    enough = values[order] <= level / np.arange(tested, 0, -1)
    shown = np.zeros(len(values), dtype=bool)
    shown[order] = np.logical_and.accumulate(enough)
    return shown
