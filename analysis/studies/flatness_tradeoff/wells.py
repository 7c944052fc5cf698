"""Claims about which of two minima of the same depth agents prefer."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import styles
from basinet.analysis.studies.flatness_tradeoff.claims import (
    AGENTS,
    RULES,
    SURE,
    Sizes,
    interval,
    make_block,
    on_landscape,
    part_of,
)
from basinet.analysis.studies.flatness_tradeoff.trainings import Array
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check, Progress
from basinet.analysis.theory import effective_potential, well_probability
from basinet.sim.run.records import Row

__all__ = ["wells_claims"]


def wells_claims(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Measure the time spent in a sharp and in a flat minimum of the same depth.

    Args:
        progress: Called with the fraction done and a description.
        sizes: The size of the study.

    Returns:
        Checks and figures.
    """
    rows: list[Row] = []
    for index, label in enumerate(RULES):
        own = part_of(progress, index / len(RULES), 1 / len(RULES))
        keys: dict[str, Any] = {"label": label, "replicas": sizes.replicas, "visits": sizes.visits}
        rows.append(once("wells", partial(_wells, own, **keys), **keys))
    found = {row["strategy"]: row for row in rows}
    checks = []
    for claim, label, other in (
        ("2: diffusion spends more time in the flat well than centralised training", "diffusion ATC", "centralized"),
        ("2: consensus spends more time in the flat well than diffusion", "consensus", "diffusion ATC"),
    ):
        difference = found[label]["measured"] - found[other]["measured"]
        half = SURE * math.hypot(found[label]["error"], found[other]["error"])
        predicted = found[label]["predicted"] - found[other]["predicted"]
        text = interval(difference, difference - half, difference + half)
        rule = "the 95 % interval lies above 0"
        checks.append(Check(f"{claim} (difference of shares)", predicted, text, rule, difference > half))
    return checks, [_draw_wells(rows)]


def _wells(progress: Progress, *, label: str, replicas: int, visits: int) -> Row:
    """Measure and predict the fraction of time that a strategy spends in the flat well."""
    diffusion, lr = 0.2, 0.02
    variance = 2 * AGENTS * diffusion / lr
    task = {"name": "double_well", "noise": math.sqrt(variance)}
    block = make_block(label, lr=lr, replicas=replicas, **on_landscape(task, -0.816))
    landscape: Any = block.task

    def value(w: Array) -> Array:
        return np.asarray(landscape.value(torch.tensor(w, dtype=landscape.origin.dtype)[..., None]).numpy(), float)

    (a, b), (sharp, flat) = landscape.minima.tolist(), landscape.curvatures.tolist()

    def bend(w: Array) -> Array:
        curvature: Array = np.where(w <= 0, sharp * (3 * (w / a) ** 2 - 1) / 2, flat * (3 * (w / b) ** 2 - 1) / 2)
        return curvature

    felt = effective_potential(RULES[label], block.setup.weights, value, bend, lr=lr, noise=variance, between=(a, b))
    predicted = well_probability(felt, diffusion, barrier=0.0, low=2 * a, high=2 * b)
    shares = np.zeros(replicas)
    looks = 0
    for step in range(25, visits + 1, 25):
        block.advance(step)
        if step > visits // 3:
            shares += (block.channel.replicas.centroid(block.x)[:, 0] > 0).double().cpu().numpy()
            looks += 1
        progress(step / visits, f"wells, {label}")
    shares /= looks
    return {
        "strategy": label, "predicted": float(predicted), "measured": float(shares.mean()),
        "error": float(shares.std(ddof=1) / math.sqrt(replicas)),
        "curvature": sharp + (flat - sharp) * float(shares.mean()),
    }  # fmt: skip


def _draw_wells(rows: Sequence[Row]) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for place, (label, style) in enumerate(styles(RULES).items()):
        row = next(row for row in rows if row["strategy"] == label)
        ax.errorbar(
            [place], [row["measured"]], [SURE * row["error"]], color=style.color, marker=style.marker, ls="", capsize=4
        )
        ax.hlines(row["predicted"], place - 0.25, place + 0.25, color=style.color, linestyle=style.line)
    ax.set_xticks(range(len(RULES)), list(RULES))
    ax.set_ylabel("fraction of time in the flat well")
    caption = (
        "Two wells of the same depth, 2.5 D below the barrier, with curvatures 6 and 1; every agent starts in the "
        "sharp one. Lines: density of the network's effective potential; markers with 95 % intervals: simulation."
    )
    return Drawing("wells", "Which minimum is preferred", caption, figure, list(rows))
