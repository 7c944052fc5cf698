"""Style of all figures: colours and markers by strategy, and axis labels of metrics."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.colors import ListedColormap, to_rgb

from basinet.analysis.statistics.quantities import quantity_of
from basinet.analysis.statistics.run_labels import names
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import Quantity

__all__ = [
    "ACCENT",
    "GREY",
    "MAIN",
    "SHADES",
    "Style",
    "axis_label",
    "baseline_lines",
    "baseline_style",
    "contrast",
    "described",
    "ink",
    "same_styles",
    "styles",
]


MAIN, ACCENT, GREY = "#0072B2", "#D55E00", "0.5"
SHADES = ListedColormap(colormaps["viridis"](np.linspace(0.2, 0.9, 256)), "shades")
"""Colour map of quantities: viridis without its ends, visible on light and dark backgrounds."""

_DASHES = ((0, (1, 2)), (0, (5, 2)), (0, (6, 2, 1, 2)), (0, (11, 3)), (0, (3, 1, 1, 1, 1, 1)))
"""Dashes of trivial baselines."""

_SAME = 1e-9
"""Largest difference, relative or absolute, of baselines that are equal up to rounding."""

_INK = "text"
"""Placeholder for the text colour, which follows the background."""
Dashes = str | tuple[int, tuple[float, ...]]


class Style(NamedTuple):
    """Style of a series: its colour, and a marker and a line style that distinguish it without colour."""

    color: str
    marker: str
    line: Dashes


# Okabe and Ito, Color Universal Design (2008): distinct in the common forms of colour blindness.
_KNOWN = {
    "centralized": Style(_INK, "s", "-"),
    "consensus": Style("#E69F00", "^", "--"),
    "diffusion ATC": Style("#0072B2", "o", "-."),
    "diffusion CTA": Style("#009E73", "D", ":"),
    "isolated": Style("#CC79A7", "v", (0, (5, 1, 1, 1, 1, 1))),
}
_OTHERS = (
    Style("#D55E00", "P", (0, (8, 2))),
    Style("#56B4E9", "X", (0, (3, 1, 1, 1))),
    Style(_INK, "*", (0, (1, 3))),
    Style("#E69F00", "<", (0, (6, 1, 2, 1))),
    Style("#0072B2", ">", (0, (10, 3))),
    Style("#009E73", "p", (0, (2, 1))),
    Style("#CC79A7", "h", (0, (4, 4))),
)

_TOGETHER: ContextVar[tuple[str, ...]] = ContextVar("together", default=())
"""Strategies of the figures drawn within `same_styles`."""

_RUNS: ContextVar[Sequence[Run]] = ContextVar("runs", default=())
"""Runs of these figures, which know the names of their metrics."""


def styles(series: Iterable[str]) -> dict[str, Style]:
    """Choose a style for each series.

    Args:
        series: Labels; well-known strategies always look the same, others get the remaining styles in order. A strategy
            under several conditions, which follow its name after a comma, keeps its colour. See also `same_styles`.

    Returns:
        Styles by label.
    """
    labels = list(dict.fromkeys(series))
    others = _other_styles()
    first: dict[str, Style] = {}
    for label in (*_TOGETHER.get(), *labels):
        name = label.split(", ")[0]
        if name not in first:
            first[name] = _KNOWN.get(name) or next(others)
    found: dict[str, Style] = {}
    for label in labels:
        style = first[label.split(", ")[0]]
        found[label] = style if style not in found.values() else next(others)._replace(color=style.color)
    return {label: style._replace(color=ink()) if style.color == _INK else style for label, style in found.items()}


def baseline_lines(values: Mapping[str, float]) -> dict[str, float]:
    """Join the names of trivial baselines that are one line.

    Args:
        values: Values by the names of the baselines.

    Returns:
        Values by names; those of equal ones are joined by "and".
    """
    lines: list[tuple[list[str], float]] = []
    for name, value in values.items():
        same = (names for names, known in lines if math.isclose(known, value, rel_tol=_SAME, abs_tol=_SAME))
        if (names := next(same, None)) is not None:
            names.append(name)
        else:
            lines.append(([name], value))
    return {" and ".join(names): value for names, value in lines}


def baseline_style(place: int) -> dict[str, Any]:
    """Choose the look of a trivial baseline: thin, grey, with dashes of its own.

    Args:
        place: Its place among the baselines.

    Returns:
        Settings of matplotlib's lines.
    """
    return {"color": GREY, "linewidth": 1.1, "linestyle": _DASHES[place % len(_DASHES)]}


def ink() -> str:
    """Return the colour of text and lines that contrast with the background.

    Returns:
        The text colour of matplotlib's settings.
    """
    return str(rcParams["text.color"])


def contrast(color: Any) -> str:
    """Choose a colour for text on a filled area.

    Args:
        color: The colour of the area.

    Returns:
        Black or white.
    """
    return "black" if float(np.dot(to_rgb(color), (0.299, 0.587, 0.114))) > 0.55 else "white"


@contextmanager
def same_styles(runs: Sequence[Run]) -> Iterator[None]:
    """Give each strategy the same style in all figures drawn in this context, whichever runs they show.

    Args:
        runs: All runs; in nested calls, those of the outermost count.

    Yields:
        Nothing.
    """
    token = _TOGETHER.set(_TOGETHER.get() or tuple(strategy for strategy, _ in names(runs)))
    told = _RUNS.set(_RUNS.get() or runs)
    try:
        yield
    finally:
        _TOGETHER.reset(token)
        _RUNS.reset(told)


def _other_styles() -> Iterator[Style]:
    """Yield the remaining styles; once they are used up, recombine their parts."""
    colors, markers, lines = zip(*_OTHERS, strict=True)
    count = len(_OTHERS)
    for n in itertools.count():
        turn = n // count
        yield Style(colors[n % count], markers[(n + turn) % count], lines[(n + 2 * turn) % count])


def described(metric: str | Quantity, runs: Sequence[Run] = ()) -> Quantity:
    """Return the description of a metric.

    Args:
        metric: Name of the metric; or its description, which is returned as it is.
        runs: Runs that measured it; by default those of `same_styles`.

    Returns:
        The quantity.
    """
    return metric if isinstance(metric, Quantity) else quantity_of(metric, runs or _RUNS.get())


_INDICES = str.maketrans("maxin", "ₘₐₓᵢₙ")


def axis_label(metric: str | Quantity, runs: Sequence[Run] = (), *, wrap: bool = False) -> str:
    """Return the axis label of a metric.

    Args:
        metric: Name of the metric, or its description.
        runs: Runs that measured it and know its label; by default those of `same_styles`.
        wrap: Whether to put a parenthesis on its own line, for short vertical axes.

    Returns:
        The name in words, with its unit if it has one.
    """
    name = re.sub(r"(?<=λ)_(max|min)", lambda index: index[1].translate(_INDICES), described(metric, runs).axis)
    return name.replace(" (", "\n(", 1) if wrap else name
