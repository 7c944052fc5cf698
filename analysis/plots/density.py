"""Spectral density of the Hessian: of one run as atoms, of several runs as histograms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import finish, new_axes, symmetric_log
from basinet.analysis.drawing.data_checks import require, require_rows, require_runs
from basinet.analysis.drawing.style import MAIN, styles
from basinet.analysis.statistics.run_labels import labels
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row, read_table

__all__ = ["plot_density", "plot_spectra", "spectra_rows"]


def spectra_rows(runs: Sequence[Run], *, bins: int = 60) -> list[dict[str, Any]]:
    """Bin the Hessian eigenvalues at the centroids of runs, with equal bins on a symmetric logarithmic axis.

    Args:
        runs: The runs; those without `hessian_density` are left out.
        bins: Number of bins.

    Returns:
        One row per run and bin: `label`, `low`, `high`, and `part`, the mean fraction of eigenvalues over replicas.
    """
    tables = []
    for run, label in zip(runs, labels(runs), strict=True):
        rows = [row for row in read_table(run.path / "density.csv") if not row.get("agent")]
        if rows:
            nodes, weights = (np.array([float(row[name]) for row in rows]) for name in ("eigenvalue", "weight"))
            tables.append((label, nodes, weights / len({row["replica"] for row in rows})))
    if not tables:
        return []
    top = max(float(np.abs(nodes).max()) for _, nodes, _ in tables) or 1.0
    scale = 1e-3 * top
    end = float(np.arcsinh(top / scale))
    edges = scale * np.sinh(np.linspace(-end, end, bins + 1))
    edges[[0, -1]] = -top, top
    return [
        {"label": label, "low": low, "high": high, "part": part}
        for label, nodes, weights in tables
        for low, high, part in zip(
            edges[:-1].tolist(),
            edges[1:].tolist(),
            np.histogram(nodes, edges, weights=weights)[0].tolist(),
            strict=True,
        )
    ]


def plot_spectra(runs: Sequence[Run], *, bins: int = 60, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the distribution of Hessian eigenvalues at the end of runs, on a logarithmic axis.

    Args:
        runs: Runs with the measure `hessian_density`.
        bins: Number of bins.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: If no run has the measure.
    """
    require_runs(runs)
    rows = spectra_rows(runs, bins=bins)
    require(rows, "no run has a spectral density; measure hessian_density")
    ax = new_axes(ax)
    for label, style in styles(row["label"] for row in rows).items():
        mine = [row for row in rows if row["label"] == label]
        edges = [mine[0]["low"], *(row["high"] for row in mine)]
        parts = [row["part"] or np.nan for row in mine]
        ax.stairs(parts, edges, baseline=None, color=style.color, linestyle=style.line, label=label)
    ax.set_yscale("log")
    symmetric_log(ax, edges)
    ax.set_xlabel("Hessian eigenvalue")
    ax.set_ylabel("part of all eigenvalues in a bin")
    ax.grid(alpha=0.25)
    return finish(ax, legend=legend)


def plot_density(rows: Sequence[Row], *, ax: Axes | None = None) -> Axes:
    """Draw a spectral density as its atoms, without the choice of a bandwidth.

    Args:
        rows: `eigenvalue` and `weight`, the fraction of eigenvalues that an atom represents.
        ax: Where to draw; new axes if None.

    Returns:
        The axes.

    Raises:
        NoDataError: If there are no rows.
    """
    missing = "there is no spectral density to draw; measure hessian_density"
    require_rows(rows, "eigenvalue", "weight", otherwise=missing)
    ax = new_axes(ax)
    nodes, weights = (np.array([float(row[name]) for row in rows]) for name in ("eigenvalue", "weight"))
    kept = weights > 0
    ax.set_yscale("log")
    ax.vlines(nodes[kept], weights[kept].min() / 3, weights[kept], color=MAIN, linewidth=1.5)
    ax.plot(nodes[kept], weights[kept], linestyle="none", marker="o", markersize=3, color=MAIN)
    symmetric_log(ax, nodes)
    ax.set_xlabel("Hessian eigenvalue")
    ax.set_ylabel("part of all eigenvalues")
    ax.grid(alpha=0.25)
    return finish(ax, legend=False)
