"""Claims about a minimum: the excess risk of agents that stay there, and which strategies can."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import styles
from basinet.analysis.studies.flatness_tradeoff.claims import (
    AGENTS,
    RULES,
    SURE,
    Sizes,
    above_one,
    make_block,
    on_landscape,
)
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check, Progress
from basinet.analysis.theory import stability_limit, steady_excess_risk
from basinet.sim.run.records import Row

__all__ = ["excess_risk_claims", "rest_claims"]

_AT_REST = 0.02
"""Agents are at rest within this fraction of the distance from the minimum to the barrier."""


def excess_risk_claims(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Measure the excess risk on a quadratic of agents whose data differ, for growing batches.

    Args:
        progress: Called with the fraction done and a description.
        sizes: The size of the study.

    Returns:
        Checks and figures.
    """
    batches = (1, 4, 16)
    rows: list[Row] = []
    for index, (label, batch) in enumerate((label, batch) for label in RULES for batch in batches):
        progress(index / (len(RULES) * len(batches)), f"excess risk of {label}, batch {batch}")
        keys: dict[str, Any] = {"label": label, "batch": batch, "replicas": sizes.replicas, "settled": sizes.settled}
        rows.append(once("excess risk", partial(_excess_risk, **keys), **keys))
    found = {(row["strategy"], row["batch"]): row for row in rows}

    def ratio(label: str, other: str, batch: int) -> tuple[float, float, float]:
        """Return the ratio of excess risks, the standard error of its logarithm, and the predicted ratio."""
        a, b = found[label, batch], found[other, batch]
        error = math.hypot(a["error"] / a["measured"], b["error"] / b["measured"])
        return a["measured"] / b["measured"], error, a["predicted"] / b["predicted"]

    checks = []
    for claim, label, other in (
        ("1: diffusion has a larger excess risk than centralised training", "diffusion ATC", "centralized"),
        ("1: consensus has a larger excess risk than centralised training", "consensus", "centralized"),
        ("3: diffusion has a smaller excess risk than consensus", "consensus", "diffusion ATC"),
    ):
        value, error, predicted = ratio(label, other, 4)
        checks.append(above_one(f"{claim} (ratio, quadratic, batch 4)", predicted, value, error))
    for label in ("diffusion ATC", "consensus"):
        less, more = (ratio(label, "centralized", batch) for batch in (1, 16))
        claim = f"1b: the ratio of {label} to centralised grows with the batch (ratio of ratios, batch 16 to 1)"
        checks.append(above_one(claim, more[2] / less[2], more[0] / less[0], math.hypot(more[1], less[1])))
    progress(1.0, "excess risk")
    return checks, [_draw_risk(rows)]


def _excess_risk(*, label: str, batch: int, replicas: int, settled: int) -> Row:
    """Measure and predict the excess risk of a strategy."""
    curvature, lr, scale = np.array([2.0, 1.0, 0.5]), 0.05, 0.2
    task = {"name": "quadratic", "curvature": curvature.tolist(), "heterogeneity": scale, "minimum": 0.0}
    block = make_block(label, lr=lr, replicas=2 * replicas, **on_landscape(task, 0.0) | {"batch_size": batch})
    block.advance(settled)
    risks = block.task.value(block.x).view(-1, AGENTS).mean(1).double()  # type: ignore[attr-defined]
    theory = steady_excess_risk(
        RULES[label], block.setup.weights, lr=lr, curvature=curvature, noise=np.ones(3) / batch,
        shifts=block.task.shifts.double().cpu().numpy(),  # type: ignore[attr-defined]
    )  # fmt: skip
    return {
        "strategy": label, "batch": batch, "predicted": float(theory.total), "measured": float(risks.mean()),
        "error": float(risks.std() / math.sqrt(len(risks))),
    }  # fmt: skip


def _draw_risk(rows: Sequence[Row]) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for label, style in styles(RULES).items():
        own = [row for row in rows if row["strategy"] == label]
        batches = [row["batch"] for row in own]
        ax.plot(batches, [row["predicted"] for row in own], color=style.color, linestyle=style.line, label=label)
        errors = [SURE * row["error"] for row in own]
        ax.errorbar(batches, [row["measured"] for row in own], errors, color=style.color, marker=style.marker, ls="")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("batch size per agent")
    ax.set_ylabel("mean excess risk of the agents")
    label_log_axes(ax)
    outside_legend(ax)
    caption = (
        "A quadratic with curvatures 2, 1 and 0.5, 16 agents on a ring whose data differ, step size 0.05. Lines: "
        "theory; markers with 95 % intervals: simulation."
    )
    return Drawing("excess_risk", "Excess risk at a minimum", caption, figure, list(rows))


def rest_claims(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Find the curvature up to which a strategy rests at a minimum, almost without noise.

    Args:
        progress: Called with the fraction done and a description.
        sizes: The size of the study.

    Returns:
        Checks and figures.
    """
    bounds: dict[str, float] = {}
    stays: dict[str, list[tuple[float, bool]]] = {label: [] for label in RULES}
    rows: list[Row] = []
    factors = (0.8, 0.95, 1.05, 1.2)
    for index, (label, factor) in enumerate((label, factor) for label in RULES for factor in factors):
        progress(index / (len(RULES) * len(factors)), f"curvature at which {label} can rest")
        keys: dict[str, Any] = {"label": label, "factor": factor, "replicas": sizes.replicas, "steps": sizes.rest}
        row = once("rest", partial(_rest, **keys), **keys)
        bounds[label] = row["cap"]
        stays[label].append((row["curvature"], row["share_at_rest"] > 0.5))
        rows.append(row)
    checks = []
    for label in RULES:
        kept = [sharp for sharp, rests in stays[label] if rests]
        left = [sharp for sharp, rests in stays[label] if not rests]
        low, high = max(kept, default=0.0), min(left, default=math.inf)
        name = "(1 + λ_min(W)) / μ" if label == "consensus" else "2 / μ"
        checks.append(
            Check(
                f"6: {label} cannot rest where λ_max(H) is above {name}",
                bounds[label],
                f"rests up to {low:.3g}, but not at {high:.3g}",
                "the limit lies in between",
                low < bounds[label] < high,
            )
        )
    return checks, [_draw_cap(rows, sizes.rest)]


def _rest(*, label: str, factor: float, replicas: int, steps: int) -> Row:
    """Measure the fraction of replicas that rest at a minimum whose curvature is a multiple of the limit."""
    lr = 0.1
    flat = make_block(label, lr=lr, replicas=1, **on_landscape({"name": "double_well"}, 0.0))
    cap = float(stability_limit(RULES[label], flat.setup.weights, 1.0) / lr)
    sharp = factor * cap
    task = {"name": "double_well", "sharp": sharp, "flat": 1.0, "noise": 1e-3}
    width = math.sqrt(8 * 0.5 / sharp)
    block = make_block(label, lr=lr, replicas=replicas, **on_landscape(task, -width))
    block.advance(steps)
    rests = ((block.x.view(-1, AGENTS) + width).abs().amax(1) < _AT_REST * width).double().mean()
    return {"strategy": label, "curvature": sharp, "cap": cap, "share_at_rest": float(rests)}


def _draw_cap(rows: Sequence[Row], steps: int) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for label, style in styles(RULES).items():
        own = [row for row in rows if row["strategy"] == label]
        ax.plot(
            [row["curvature"] for row in own], [row["share_at_rest"] for row in own], label=label, color=style.color,
            marker=style.marker, linestyle=style.line,
        )  # fmt: skip
        ax.axvline(own[0]["cap"], color=style.color, linewidth=0.8)
    ax.set_xlabel("curvature of the minimum")
    ax.set_ylabel(f"fraction of replicas at rest after {steps} steps")
    outside_legend(ax)
    caption = (
        "Every agent starts at a minimum, almost without noise, with the step size 0.1. Vertical lines: 2/μ, and "
        "(1 + λ_min(W))/μ for consensus."
    )
    return Drawing("cap", "Where a strategy can rest", caption, figure, list(rows))
