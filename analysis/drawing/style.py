"""How every figure looks: colours and markers by strategy, and the names of metrics on axes."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.colors import ListedColormap, to_rgb

from basinet.analysis.statistics.quantities import quantity_of
from basinet.analysis.statistics.run_labels import names
from basinet.sim.run.folder import Run

__all__ = [
    "ACCENT",
    "GREY",
    "MAIN",
    "SHADES",
    "Style",
    "axis_label",
    "contrast",
    "ink",
    "same_styles",
    "styles",
]


MAIN, ACCENT, GREY = "#0072B2", "#D55E00", "0.5"
SHADES = ListedColormap(colormaps["viridis"](np.linspace(0.2, 0.9, 256)), "shades")
"""Colours of quantities: without the ends of viridis, its lines can be seen on light and on dark."""

_INK = "text"
"""Stands for the colour of text, which follows the background."""
Dashes = str | tuple[int, tuple[float, ...]]


class Style(NamedTuple):
    """How a series is drawn: its colour, and a marker and a line that tell it apart without colour."""

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
"""Strategies of the figures that belong together."""

_RUNS: ContextVar[Sequence[Run]] = ContextVar("runs", default=())
"""Their runs, which know what their metrics are called."""


def styles(series: Iterable[str]) -> dict[str, Style]:
    """Choose a style for each series.

    Args:
        series: Labels; the usual strategies always look the same, others take what is left in order. A strategy under
            several conditions, which follow its name after a comma, keeps its colour. See also `same_styles`.

    Returns:
        A mapping from label to style.
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


def ink() -> str:
    """Return the colour of text and lines that stand out from the background.

    Returns:
        What matplotlib is set to.
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
    """Let a strategy look the same in all figures and panels that are drawn meanwhile, whichever runs they show.

    Args:
        runs: All runs; within another call, those of that one decide.

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
    """Go through the styles that are left; once they are used up, their parts come in other combinations."""
    colors, markers, lines = zip(*_OTHERS, strict=True)
    count = len(_OTHERS)
    for n in itertools.count():
        turn = n // count
        yield Style(colors[n % count], markers[(n + turn) % count], lines[(n + 2 * turn) % count])


def axis_label(metric: str, runs: Sequence[Run] = (), *, wrap: bool = False) -> str:
    """Name a metric on an axis.

    Args:
        metric: Name of the metric.
        runs: Those that have measured it, which know what it is; by default those of `same_styles`.
        wrap: Whether what is in parentheses goes to a line of its own: a vertical axis is short.

    Returns:
        The name in words, with its unit where it has one.
    """
    name = quantity_of(metric, runs or _RUNS.get()).axis
    return name.replace(" (", "\n(", 1) if wrap else name
