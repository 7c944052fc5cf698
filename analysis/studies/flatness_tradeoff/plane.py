"""Accuracy of trainings in the plane of flatness and training loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import SHADES, styles
from basinet.analysis.plots.scatter import iso_lines
from basinet.analysis.studies.flatness_tradeoff.claims import STRATEGIES

__all__ = ["draw_plane"]


def draw_plane(rows: Sequence[Mapping[str, Any]], name: str, where: str) -> Drawing:
    """Draw trainings by λ_max and training loss, coloured by their accuracy, with lines of equal fitted accuracy.

    Args:
        rows: Trainings: strategy, batch, hessian_top_eigenvalue, train_loss, test_accuracy.
        name: End of the file names.
        where: Description of the training.

    Returns:
        The figure.
    """
    batches = sorted({row["batch"] for row in rows})
    accuracy = [row["test_accuracy"] for row in rows]
    fit = iso_lines(rows, "hessian_top_eigenvalue", "test_accuracy", "train_loss")
    logs = (np.log([row[key] for row in rows]) for key in ("hessian_top_eigenvalue", "train_loss"))
    across, up = (np.exp(np.linspace(v.min() - 0.05 * np.ptp(v), v.max() + 0.05 * np.ptp(v), 50)) for v in logs)
    colours = {"cmap": SHADES, "vmin": min(accuracy), "vmax": max(accuracy)}
    figure, axes = grid(len(batches), share_x=True, share_y=True)
    for ax, batch in zip(axes, batches, strict=True):
        if fit is not None:
            plane = fit.at(*np.meshgrid(across, up))
            lines = ax.contour(across, up, plane, levels=6, alpha=0.6, linewidths=0.8, **colours)
            ax.clabel(lines, fontsize=7, fmt="%.3g")
        for label, style in styles(STRATEGIES).items():
            own = [row for row in rows if (row["strategy"], row["batch"]) == (label, batch)]
            ax.scatter(
                [row["hessian_top_eigenvalue"] for row in own], [row["train_loss"] for row in own],
                c=[row["test_accuracy"] for row in own], marker=style.marker, edgecolors=style.color, label=label,
                **colours,
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(f"batch {batch}", fontsize="medium")
        ax.set_xlabel("λ_max (smaller is flatter)")
        label_log_axes(ax)
    axes[0].set_ylabel("training loss")
    outside_legend(axes[-1])
    caption = (
        f"{where}, from random starts at equal steps: where each replica ends. Brighter marks are more accurate on the "
        "test set; lines: equal accuracy in a regression on both logarithms over all trainings."
    )
    return Drawing(
        f"plane_{name}", f"Flatness, optimization and accuracy: {where}", caption, figure, [dict(r) for r in rows]
    )
