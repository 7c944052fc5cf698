"""Tick labels: as many as fit."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator

from basinet.analysis.drawing.sizes import cell_of, shorten

__all__ = ["fit_ticks", "tick_labels"]


def tick_labels(axis: Axis) -> list[Text]:
    """Collect the visible labels of the major ticks.

    Args:
        axis: The axis.

    Returns:
        Texts in tick order.
    """
    low, high = sorted(axis.get_view_interval())
    room = 1e-9 * (high - low)
    axis.get_majorticklabels()  # brings them up to date
    ticks, places = axis.get_major_ticks(), axis.get_majorticklocs()
    return [
        label
        for tick, place in zip(ticks, places, strict=False)
        if low - room <= place <= high + room
        for label in (tick.label1, tick.label2)
        if label.get_visible() and label.get_text()
    ]


class _Every(Locator):
    """A locator that keeps every n-th tick of another locator."""

    def __init__(self, base: Locator, step: int) -> None:
        self.base, self.step = base, step

    def set_axis(self, axis: Any) -> None:
        super().set_axis(axis)
        self.base.set_axis(axis)

    def __call__(self) -> Any:
        return self._thin(self.base())

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return self._thin(self.base.tick_values(vmin, vmax))

    def nonsingular(self, v0: float, v1: float) -> tuple[float, float]:
        return self.base.nonsingular(v0, v1)

    def _thin(self, places: Sequence[float]) -> list[float]:
        """Keep every `step`-th position in view, including zero."""
        low, high = sorted(self.axis.get_view_interval()) if self.axis is not None else (-np.inf, np.inf)
        inside = [place for place in places if low <= place <= high]
        whole = [place for place in inside if place == 0][:1] or inside[:1]  # zero stays
        start = inside.index(whole[0]) % self.step if whole else 0
        return inside[start :: self.step]


def fit_ticks(axis: Axis, along: int) -> bool:
    """Rotate and shorten overlapping names; thin out overlapping numbers.

    Args:
        axis: The axis.
        along: Direction of the axis: 0 for horizontal, 1 for vertical.

    Returns:
        Whether anything changed.
    """
    texts = tick_labels(axis)
    step = _step(texts, along)
    if step == 1:
        return False
    base = axis.get_major_locator()
    if along == 0 and isinstance(base, FixedLocator) and isinstance(axis.get_major_formatter(), FuncFormatter):
        names = [text.get_text() for text in axis.get_majorticklabels()]
        length = 0.3 * 72 * cell_of(axis.axes)[1]
        axis.set_ticks(
            axis.get_majorticklocs().tolist(),
            [shorten(name.replace("\n", " "), length, float(texts[0].get_fontsize())) for name in names],
        )
        axis.set_tick_params(labelrotation=90)
        base, step = axis.get_major_locator(), _step(tick_labels(axis), along)
        if step == 1:
            return True
    while step < len(texts):
        axis.set_major_locator(_Every(base, step))
        if _step(tick_labels(axis), along) == 1:
            break
        step += 1
    return True


def _step(texts: Sequence[Text], along: int) -> int:
    """Find the n for which every n-th label fits."""
    if len(texts) < 2:
        return 1
    spans = [(box.min[along], box.max[along]) for box in (text.get_window_extent() for text in texts)]
    gap = 0.3 * float(np.mean([text.get_fontsize() for text in texts])) if along == 0 else 0.0
    for step in range(1, len(spans)):
        kept = sorted(spans[::step])
        if all(right[0] - left[1] >= gap for left, right in itertools.pairwise(kept)):
            return step
    return max(1, len(spans) - 1)
