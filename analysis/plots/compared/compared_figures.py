"""Figures of comparisons by kind, at the widths of papers."""

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from basinet.analysis.compare.comparison import Comparison
from basinet.analysis.drawing.choice import MOST_PANELS
from basinet.analysis.drawing.literal import show_literally
from basinet.analysis.drawing.style import same_styles
from basinet.analysis.plots.compared.compared_curves import plot_compared_curves
from basinet.analysis.plots.compared.compared_points import plot_compared_points
from basinet.analysis.plots.compared.compared_series import (
    Bars,
    chosen,
    panels_of_conditions,
    ranking_metric,
    require_comparison,
    without_others,
)
from basinet.analysis.plots.compared.heat_map import (
    NARROW,
    add_scale,
    best_maps,
    empty_cells,
    over_keys,
    plot_heat_map,
    sides,
)
from basinet.analysis.plots.compared.parallel_coordinates import plot_parallel
from basinet.analysis.plots.compared.trends import plot_trend, trend_series
from basinet.analysis.statistics.run_labels import listed
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.run.files import write_atomically

__all__ = ["KINDS", "OF_RUNS", "WIDTHS", "check_file", "comparison_figure", "parse_width", "save_figure"]

KINDS = {
    "flatness": "accuracy against flatness, a mark per replica and means with intervals",
    "risk": "excess risk against flatness, likewise",
    "scatter": "--y against --x, likewise",
    "curves": "a metric over steps, samples, bytes or seconds (--x)",
    "trend": "a metric against spectral_gap or degree over topologies, or against a key with numbers (--x)",
    "heatmap": "a metric (--metrics) over two keys (--x, --y)",
    "parallel": "parallel coordinates of keys and --metrics",
}
"""Kinds of figures, and what they show."""

OF_RUNS = {"flatness": "flatness_accuracy", "risk": "risk_flatness"}
"""What figures of single runs are called, as of `Results.plot`, where they have other names."""

WIDTHS = {"column": 3.3, "page": 6.9}
"""Widths of papers in inches."""
_LEAST, _MOST = 2.0, 40.0
_FORMATS: dict[str, dict[str, None]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {}}
"""Formats by suffix, without the time of writing, for reproducible files."""
_DPI = 300
_BARS: dict[Bars, str] = {"error": "one standard error to both sides", "bootstrap": "95 % bootstrap intervals"}
_FEW_MAPS = 4
"""The largest number of heat maps in a column: one above the other, for their numbers to fit."""
_PAPER: dict[Any, Any] = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "legend.fontsize": 7.5,
    "legend.columnspacing": 1.2,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
}
"""Settings of matplotlib at these widths: text as large as that of captions."""


def parse_width(text: str) -> float:
    """Read a width.

    Args:
        text: `column`, `page`, or inches.

    Returns:
        Inches.

    Raises:
        ExperimentError: It is something else.
    """
    try:
        width = WIDTHS.get(text) or float(text)
    except ValueError:
        width = 0.0
    if not _LEAST <= width <= _MOST:
        raise ExperimentError(
            f"--width: got {text}; allowed are column ({WIDTHS['column']} in), page ({WIDTHS['page']} in), or inches"
            f" from {_LEAST:g} to {_MOST:g}"
        )
    return width


def comparison_figure(
    found: Comparison,
    kind: str,
    *,
    x: str | None = None,
    y: str | None = None,
    metrics: Sequence[str] = (),
    interval: Bars = "error",
    width: float | str | None = None,
) -> tuple[Figure, list[str]]:
    """Draw a figure of a comparison: a panel for each condition, and the best groups if there are too many.

    Args:
        found: What `basinet.compare` returns.
        kind: One of `KINDS`.
        x: What is across: a quantity; for `heatmap` a key.
        y: What is up: a quantity; for `heatmap` a key.
        metrics: The metric of `heatmap`; the metrics of `parallel`.
        interval: What bars and bands show: `error`, standard errors to both sides, or `bootstrap`, 95 % intervals.
        width: `column`, `page` or inches; None for the screen.

    Returns:
        The figure, and sentences about what its bars and bands are and what it does not show.

    Raises:
        ExperimentError: There is no such kind, or it cannot be drawn of these runs.
    """
    require_comparison(found)
    kind = next((name for name, same in OF_RUNS.items() if same == kind), kind)
    if kind not in KINDS:
        raise ExperimentError(f"--plot: got {kind}; {nearest(kind, KINDS)}")
    if interval not in _BARS:
        raise ExperimentError(f"interval: got {interval}; allowed are {', '.join(_BARS)}")
    inches = parse_width(str(width)) if width is not None else None
    with rc_context(_PAPER if inches else None), same_styles(found.frame.runs):
        figure, notes = _draw(found, kind, x, y, metrics, interval, inches)
    show_literally(figure)
    return figure, notes


def _draw(
    found: Comparison,
    kind: str,
    x: str | None,
    y: str | None,
    metrics: Sequence[str],
    interval: Bars,
    width: float | None,
) -> tuple[Figure, list[str]]:
    """Draw a kind of figure."""
    if kind == "parallel":
        together = without_others(found, [replace(group, condition="") for group in found.groups])
        return panels_of_conditions(together, partial(plot_parallel, metrics=metrics), width=width), []
    metric = y if y and kind != "heatmap" else metrics[0] if metrics else ranking_metric(found)
    narrow = width is not None and width < NARROW and kind == "heatmap"
    needed = [metric]
    finish: partial[None] | None = None
    if kind == "heatmap":
        across, up = sides(found, x, y)
        kept, note = best_maps(over_keys(found, across, up), metric, _FEW_MAPS if narrow else MOST_PANELS)
        plot: partial[Any] = partial(plot_heat_map, metric=metric, x=across, y=up)
        finish = partial(add_scale, kept, metric)
    elif kind == "curves":
        kept, note = chosen(found, metric)
        plot = partial(plot_compared_curves, metric=metric, x=x or "step", interval=interval)
    elif kind == "trend":
        kept, note = trend_series(found, metric, x or "spectral_gap")
        plot = partial(plot_trend, metric=metric, x=x or "spectral_gap", interval=interval)
    else:
        across, up = _axes(found, kind, x, y, metric)
        needed = [across, up]
        kept, note = chosen(found, up)
        plot = partial(plot_compared_points, x=across, y=up, interval=interval)
    if kind == "heatmap":
        bars = empty_cells(kept, metric)
    else:
        bars = f"bars and bands around means over replicas: {_BARS[interval]}"
    figure = panels_of_conditions(kept, plot, width=width, most=1 if narrow else 3, finish=finish)
    return figure, [*filter(None, [bars, *kept.notes, note, _lacking(kept, needed)])]


def _lacking(found: Comparison, names: Sequence[str]) -> str:
    """Name the groups that a figure cannot show; return an empty text if there are none."""
    known = np.logical_and.reduce([np.isfinite(found.frame.numbers(name)) for name in names])
    lost = [", ".join(filter(None, (g.label, g.condition))) for g in found.groups if not known[g.rows].any()]
    return (
        f"no replica of {listed(lost, '; ')} has {' and '.join(names)}, so the figure does not show it" if lost else ""
    )


def _axes(found: Comparison, kind: str, x: str | None, y: str | None, metric: str) -> tuple[str, str]:
    """Choose the quantities of a scatter plot."""
    if kind == "scatter":
        if not (x and y):
            raise ExperimentError("--plot scatter: it has two sides; give --x and --y, such as --y test_accuracy")
        return x, y
    flatness = next((name for name in ("hessian_trace", "hessian_top_eigenvalue") if name in found.frame.metrics), None)
    if not (x or flatness):
        raise ExperimentError(
            f"--plot {kind}: no run has measured a Hessian; measure hessian_trace (basinet analyze), or give --x"
        )
    return x or str(flatness), y or ("excess_risk" if kind == "risk" else metric)


def check_file(path: Path | None, option: str = "--out") -> None:
    """Raise unless a figure can be written to a file of this name.

    Args:
        path: The file.
        option: The option that names it, for messages.

    Raises:
        ExperimentError: There is none, or its suffix names no format.
    """
    if path is None or path.suffix.lower() not in _FORMATS:
        raise ExperimentError(f"{option}: got {path or 'none'}; a figure needs a file with {', '.join(_FORMATS)}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, with embedded TrueType fonts in PDF and text as paths in SVG.

    Args:
        figure: The figure.
        path: The file, whose suffix is .pdf, .svg or .png.
    """
    check_file(path)
    written = io.BytesIO()
    suffix = path.suffix.lower()
    with rc_context({"svg.hashsalt": "basinet"}):
        figure.savefig(written, format=suffix[1:], dpi=_DPI, metadata=_FORMATS[suffix])
    write_atomically(path, written.getvalue())
