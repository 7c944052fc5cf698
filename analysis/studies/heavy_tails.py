"""Normalised SGD under heavy tails: how the gradient norm falls with the number of steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from basinet.algorithms.optimizers import NSGD
from basinet.analysis.plots.gallery import Drawing
from basinet.analysis.plots.style import grid, label_log_axes
from basinet.analysis.studies.study import Check, Findings, Progress
from basinet.sim.tasks.ripples import ripples

__all__ = ["heavy_tails"]

_START = 3.0
_SMOOTHNESS = 2.0


def heavy_tails(progress: Progress, *, horizons: Sequence[int] = (316, 1000, 3162, 10_000, 31_623)) -> Findings:
    """Measure the rates of normalised SGD under heavy-tailed gradient noise.

    Args:
        progress: Is told how far the study is.
        horizons: Numbers of steps T.

    Returns:
        The findings.
    """
    task = ripples()
    gap = float(task.value(torch.full((task.num_outputs,), _START, dtype=torch.float64)))
    rows: list[dict[str, Any]] = []
    done = 0
    for steps in horizons:
        w = torch.nn.Parameter(torch.full((1, task.num_outputs), _START, dtype=torch.float64))
        optimizer = NSGD([w], lr=(gap / (_SMOOTHNESS * steps)) ** 0.5, agents=1)
        total = 0.0
        for _ in range(steps):
            w.grad = task.gradient(w.detach())
            total += float(w.grad.norm())
            optimizer.step()
        rows.append({"method": "NSGD, no noise", "steps": steps, "gradient_norm": total / steps})
        done += steps
        progress(done / sum(horizons), f"no noise, T = {steps}")
    norms = [row["gradient_norm"] for row in rows]
    slope = float(np.polyfit(np.log(horizons), np.log(norms), 1)[0])
    return Findings(
        title="Normalised SGD under heavy-tailed noise",
        about=["The mean over t of ‖∇J(x_t)‖ after T steps of length √(Δ / (L T)), on the task ripples."],
        checks=[Check.near("slope without noise", -0.5, slope, within=0.01)],
        drawings=[Drawing("rates", "Gradient norm against T", "Both axes are logarithmic.", _draw(rows), rows)],
        sources=["T. Sun, X. Liu, K. Yuan, JMLR 26 (2025), arXiv:2410.16561."],
    )


def _draw(rows: Sequence[dict[str, Any]]) -> Figure:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    ax.loglog([row["steps"] for row in rows], [row["gradient_norm"] for row in rows], marker="o")
    ax.set_xlabel("steps T")
    ax.set_ylabel("mean gradient norm")
    label_log_axes(ax)
    return figure
