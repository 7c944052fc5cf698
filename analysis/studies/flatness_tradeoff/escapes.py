"""Claims about escapes: the time that agents stay at a minimum."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import styles
from basinet.analysis.plots.survival_curves import plot_survival, survival_rows
from basinet.analysis.statistics.survival import MeanTime, kaplan_meier, mean_time, speed_up
from basinet.analysis.studies.flatness_tradeoff.claims import (
    AGENTS,
    RULES,
    Sizes,
    above_one,
    interval,
    make_block,
    on_landscape,
    part_of,
)
from basinet.analysis.studies.flatness_tradeoff.trainings import Array
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check, Progress
from basinet.analysis.theory import effective_potential, mean_passage_time
from basinet.sim.agents.block import Block
from basinet.sim.run.records import Row

__all__ = [
    "BARRIER",
    "START",
    "THRESHOLD",
    "bend",
    "escape_claims",
    "exits",
    "in_the_well",
    "quartic",
]

BARRIER = 0.25
"""Height of the barrier of w⁴/4 − w²/2."""

START, THRESHOLD = -1.0, 0.5
"""Start of the walks, at a minimum, and the threshold beyond which they have left its well."""


def quartic(w: Array) -> Array:
    """Evaluate J.

    Args:
        w: Points.

    Returns:
        w⁴/4 − w²/2.
    """
    return w**2 * (w**2 - 2) / 4


def bend(w: Array) -> Array:
    """Evaluate J″.

    Args:
        w: Points.

    Returns:
        3w² − 1.
    """
    return 3 * w**2 - 1


def in_the_well(variance: float, *, batch: int, heterogeneity: float = 0.0) -> dict[str, Any]:
    """Describe agents at the minimum of a quartic well, observed until they leave it.

    Args:
        variance: Variance of the per-sample gradient.
        batch: Samples per step and agent.
        heterogeneity: Standard deviation of the agents' gradient shifts.

    Returns:
        Keys of an experiment.
    """
    task = {
        "name": "double_well", "sharp": 2.0, "flat": 2.0, "depth_sharp": BARRIER, "depth_flat": BARRIER,
        "noise": math.sqrt(variance), "heterogeneity": heterogeneity,
    }  # fmt: skip
    watched = {"batch_size": batch, "escape": {"name": "passes", "value": THRESHOLD}}
    return on_landscape(task, START) | watched


def exits(
    block: Block, predicted: float, wanted: float, progress: Progress, what: str
) -> tuple[Array, NDArray[np.bool_]]:
    """Advance until a share of the replicas has left, or four times the predicted mean has passed.

    Args:
        block: The replicas.
        predicted: The predicted mean exit time.
        wanted: The fraction of the replicas.
        progress: Called with the fraction done and a description.
        what: The description.

    Returns:
        Steps of exit or of censoring, and whether the replica left then, [R] each.
    """
    assert block.escape is not None
    stride = max(50, round(predicted / 20))
    while block.step < 4 * predicted:
        block.advance(block.step + stride)
        share = float((block.escape.steps > 0).double().mean())
        progress(min(1.0, share / wanted), what)
        if share >= wanted:
            break
    steps = block.escape.steps.cpu().numpy()
    return np.where(steps > 0, steps, block.step).astype(float), steps > 0


def escape_claims(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Measure exit times from a well, with step sizes proportional to the batch size.

    Args:
        progress: Called with the fraction done and a description.
        sizes: The size of the study.

    Returns:
        Checks and figures.
    """
    times: dict[tuple[str, int], MeanTime] = {}
    expected: dict[tuple[str, int], float] = {}
    curves = {}
    cases = [(batch, label) for batch in sizes.batches for label in RULES]
    cost = [1 / batch for batch, _ in cases]
    for index, (batch, label) in enumerate(cases):
        begun = sum(cost[:index]) / sum(cost)
        own = part_of(progress, begun, cost[index] / sum(cost))
        keys: dict[str, Any] = {"label": label, "batch": batch, "replicas": sizes.replicas, "share": sizes.exits}
        mean, *found = once("exit times", partial(_exit_times, own, **keys), **keys)
        left, happened = (np.array(values) for values in found)
        times[label, batch], expected[label, batch] = mean_time(left, happened), mean
        if batch == sizes.batches[-2]:
            curves[label] = kaplan_meier(left, happened)
    checks = []
    middle = sizes.batches[-2]
    for claim, slow, fast in (
        ("1: diffusion leaves a minimum sooner than centralised training", "centralized", "diffusion ATC"),
        ("1: consensus leaves a minimum sooner than diffusion", "diffusion ATC", "consensus"),
    ):
        ratio = speed_up(times[slow, middle], times[fast, middle])
        predicted = expected[slow, middle] / expected[fast, middle]
        text = interval(ratio.ratio, ratio.lower, ratio.upper)
        checks.append(
            Check(
                f"{claim} (ratio of mean exit times)",
                predicted,
                text,
                "the 95 % interval lies above 1",
                ratio.lower > 1,
            )
        )
    small, large = sizes.batches[0], sizes.batches[-1]
    for label in ("diffusion ATC", "consensus"):
        gains = [speed_up(times["centralized", b], times[label, b]) for b in (small, large)]
        hints = [expected["centralized", b] / expected[label, b] for b in (small, large)]
        error = math.sqrt(sum((math.log(gain.ratio) / gain.z) ** 2 for gain in gains))
        claim = f"1b: the speed-up of {label} grows with batch and step (ratio of ratios, batch {large} to {small})"
        checks.append(above_one(claim, hints[1] / hints[0], gains[1].ratio / gains[0].ratio, error))
    rows = [
        {"strategy": label, "batch": batch, "predicted": expected[label, batch], "mean": time.value,
         "lower": time.lower, "upper": time.upper, "exits": time.happened}
        for (label, batch), time in times.items()
    ]  # fmt: skip
    means = {label: expected[label, middle] for label in RULES}
    return checks, [_draw_times(rows), _draw_survival(curves, means)]


def _exit_times(progress: Progress, *, label: str, batch: int, replicas: int, share: float) -> list[Any]:
    """Predict the mean exit time, and measure exit times and which replicas have left."""
    height, unit = 3.0, 0.01
    diffusion = BARRIER / height
    # The step size grows with the batch size B, so that D = μ σ² / (2 K B) stays the same.
    lr = unit * batch
    variance = 2 * AGENTS * diffusion / lr
    block = make_block(label, lr=lr, replicas=replicas, **in_the_well(variance * batch, batch=batch))
    felt = effective_potential(
        RULES[label], block.setup.weights, quartic, bend, lr=lr, noise=variance, between=(START, THRESHOLD)
    )
    mean = float(mean_passage_time(felt, diffusion, start=START, threshold=THRESHOLD, lr=lr))
    left, happened = exits(block, mean, share, progress, f"exit times of {label}, batch {batch}")
    return [mean, left.tolist(), happened.tolist()]


def _draw_times(rows: Sequence[Row]) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for label, style in styles(RULES).items():
        own = [row for row in rows if row["strategy"] == label]
        batches = [row["batch"] for row in own]
        ax.plot(batches, [row["predicted"] for row in own], color=style.color, linestyle=style.line, label=label)
        spread = [
            [row["mean"] - row["lower"] for row in own],
            [min(row["upper"], 1e12) - row["mean"] for row in own],
        ]
        ax.errorbar(batches, [row["mean"] for row in own], spread, color=style.color, marker=style.marker, ls="")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("batch size per agent (step size proportional)")
    ax.set_ylabel("mean exit time (steps)")
    label_log_axes(ax)
    outside_legend(ax)
    caption = (
        "From a well of w⁴/4 − w²/2 with a barrier of 3 D, 16 agents on a ring with the same data. Lines: mean passage "
        "time in the network's effective potential; markers: maximum likelihood, with 95 % intervals."
    )
    return Drawing("exit_times", "Time until a minimum is left", caption, figure, list(rows))


def _draw_survival(curves: Mapping[str, Any], means: Mapping[str, float]) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    plot_survival(curves, means=means, ax=ax)
    caption = (
        "Fraction of the replicas still in the well (Kaplan-Meier, pointwise 95 % intervals), and exponentials with "
        "the predicted mean (thin)."
    )
    return Drawing("survival", "Who is still there", caption, figure, survival_rows(curves))
