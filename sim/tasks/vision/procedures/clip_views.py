"""Augmented views of clips, which are compared with each other as in SimCLR."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWS_OF_VIEW", "view_of"]

DRAWS_OF_VIEW = 8
"""Numbers that a view depends on."""

_LEAST_SHARE = 0.6
_LIGHT, _COLOUR = 0.4, 0.2


def view_of(frames: NDArray[np.uint8], drawn: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Change the frames of a clip, all alike: show a part of them, perhaps mirrored, in another light and colour.

    Args:
        frames: [F, 3, H, W].
        drawn: `DRAWS_OF_VIEW` numbers in [0, 1).

    Returns:
        [F, 3, H, W]: at least 0.6 of the height and of the width, by the nearest pixels; mirrored with probability one
        half; brighter or darker by up to 0.4, and each colour by up to 0.2.
    """
    mirrored, light, *edges = drawn[:5]
    share = _LEAST_SHARE + (1 - _LEAST_SHARE) * edges[0]
    rows, columns = (
        ((start * (1 - share) + share * (np.arange(size) + 0.5) / size) * size).astype(np.int64)
        for start, size in zip(edges[1:], frames.shape[2:], strict=True)
    )
    columns = columns[::-1] if mirrored < 0.5 else columns
    gains = (1 + _LIGHT * (2 * light - 1)) * (1 + _COLOUR * (2 * drawn[5:] - 1))
    changed: NDArray[np.float64] = frames[:, :, rows[:, None], columns] * gains[:, None, None]
    return changed.round().clip(0, 255).astype(np.uint8)
