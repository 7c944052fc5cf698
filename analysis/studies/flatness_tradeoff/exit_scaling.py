"""Claims about escapes: how exit times scale with step, batch, graph, disagreement and heterogeneous data."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import ink, styles
from basinet.analysis.statistics.survival import MeanTime, mean_time, speed_up
from basinet.analysis.studies.flatness_tradeoff.claims import (
    AGENTS,
    RULES,
    SURE,
    Sizes,
    above_one,
    interval,
    make_block,
    part_of,
)
from basinet.analysis.studies.flatness_tradeoff.escapes import (
    BARRIER,
    START,
    THRESHOLD,
    bend,
    exits,
    in_the_well,
    quartic,
)
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check, Progress
from basinet.analysis.theory import disagreement_variance, effective_potential, mean_passage_time
from basinet.topologies import spectral_gap

__all__ = ["scaling_claims"]

_GRAPHS = ("complete", "torus", "ring", "path")
"""Graphs from the best to the worst mixing."""

_HEIGHT = 1.5
"""Barrier over D for batches of one sample at the middle step size; it grows with the batch size."""

_UNLIKE = 1.5
"""Standard deviation of the agents' gradient shifts if their data differ."""

_CURVATURE = 2.0
"""J″ at the minimum."""


@dataclass(frozen=True)
class _Case:
    """A network to measure the exit time of."""

    strategy: str = "consensus"
    graph: str = "ring"
    step: float = 1.0
    batch: int = 2
    unlike: bool = False


@dataclass(frozen=True)
class _Found:
    """Measured and predicted exit time of a network.

    Attributes:
        time: The measured time.
        predicted: The mean passage time in the network's effective potential.
        disagreement: Variance V of the agents about their centroid at the minimum.
        gap: Spectral gap of the graph.
        dropped: Magnitude of the terms that the small-step theory neglects in the log time: a relative μ h, in the
            prefactor and in the exponent.
    """

    time: MeanTime
    predicted: float
    disagreement: float
    gap: float
    dropped: float

    @property
    def log(self) -> float:
        """Logarithm of the measured time."""
        return math.log(self.time.value)

    @property
    def error(self) -> float:
        """Its standard error."""
        return 1 / math.sqrt(self.time.happened)


_CASES = [
    *(_Case(step=step) for step in (1.0, 1.25, 1.5)),
    _Case(batch=1),
    *(_Case(graph=graph) for graph in _GRAPHS if graph != "ring"),
    *(_Case(strategy="centralized", batch=batch) for batch in (1, 2)),
    *(_Case(unlike=True, batch=batch) for batch in (1, 2)),
]


def _measure(case: _Case, *, lr: float, replicas: int, share: float, progress: Progress) -> list[Any]:
    """Compute the values of `_Found` for a case; the per-sample noise is the same in all."""
    variance = 2 * AGENTS * (BARRIER / _HEIGHT) / lr
    lr = lr * case.step
    block = make_block(
        case.strategy,
        lr=lr,
        replicas=2 * replicas,
        **in_the_well(variance, batch=case.batch, heterogeneity=_UNLIKE if case.unlike else 0.0)
        | {"topology": {"name": case.graph, "agents": AGENTS}},
    )
    rule, weights, noise = RULES[case.strategy], block.setup.weights, variance / case.batch
    task: Any = block.setup.task
    shifts = task.shifts[:, 0].double().numpy()
    felt = effective_potential(
        rule, weights, quartic, bend, lr=lr, noise=noise, shifts=shifts, between=(START, THRESHOLD)
    )  # fmt: skip
    diffusion = lr * noise / (2 * AGENTS)
    predicted = mean_passage_time(felt, diffusion, start=START, threshold=THRESHOLD, lr=lr)
    left, happened = exits(block, predicted, share, progress, f"exit times of {case.strategy}, {case.graph}")
    spread = disagreement_variance(
        rule, weights, lr=lr, curvature=[_CURVATURE], noise=[noise], shifts=shifts[:, None]
    )  # fmt: skip
    dropped = lr * _CURVATURE * (1 + BARRIER / diffusion)
    time = list(asdict(mean_time(left, happened)).values())
    return [time, float(predicted), float(spread[0]), float(spectral_gap(weights)), dropped]


def scaling_claims(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Measure exit times from a well, varying step, batch, graph and the agents' data one at a time.

    Args:
        progress: Called with the fraction done and a description.
        sizes: The size of the study.

    Returns:
        Checks and figures.
    """
    lr = min(0.04, 0.01 * sizes.batches[1])  # the theory is for small steps
    found: dict[_Case, _Found] = {}
    for number, case in enumerate(_CASES):
        own = part_of(progress, number / len(_CASES), 1 / len(_CASES))
        keys: dict[str, Any] = {"lr": lr, "replicas": sizes.replicas, "share": sizes.exits}
        time, *rest = once("exit scaling", partial(_measure, case, progress=own, **keys), **asdict(case), **keys)
        found[case] = _Found(MeanTime(*time), *rest)
    ring, large = _Case(), _Case(step=1.5)
    checks = [
        _ratio("1: consensus stays longer the smaller its step (exit time, step 1 to 1.5)", found[ring], found[large]),
        _ratio("1: consensus stays longer the larger its batch (exit time, batch 2 to 1)", found[ring],
               found[_Case(batch=1)]),
        _ratio("1: consensus stays longer the better its graph mixes (exit time, complete graph to path)",
               found[_Case(graph="complete")], found[_Case(graph="path")]),
        _slope(found),
        _unlike_data(found),
        _theory(found),
    ]  # fmt: skip
    return checks, [_draw(found)]


def _ratio(claim: str, slow: _Found, fast: _Found) -> Check:
    ratio = speed_up(slow.time, fast.time)
    error = math.hypot(slow.error, fast.error)
    return above_one(claim, slow.predicted / fast.predicted, ratio.ratio, error)


def _slope(found: dict[_Case, _Found]) -> Check:
    """Regress the log exit time on the disagreement, for equal step, batch and noise."""
    same = [value for case, value in found.items() if case.step == 1 and case.batch == 2]
    V = np.array([value.disagreement for value in same])
    weights = np.array([value.error**-2 for value in same])
    centred = V - (weights @ V) / weights.sum()
    precision = float(weights @ centred**2)
    predicted, measured = (
        float((weights * centred) @ logs) / precision
        for logs in (np.log([value.predicted for value in same]), np.array([value.log for value in same]))
    )
    half = SURE / math.sqrt(precision)
    claim = "1: the more the agents disagree, the sooner they leave (slope of the logarithm of the exit time over V)"
    text = interval(measured, measured - half, measured + half)
    return Check(claim, predicted, text, "the 95 % interval lies below 0", measured + half < 0)


def _unlike_data(found: dict[_Case, _Found]) -> Check:
    """Compare how much a larger batch slows the exit of centralised training and of heterogeneous agents."""
    slow, fast = ([found[_Case("centralized", batch=b)], found[_Case(unlike=True, batch=b)]] for b in (2, 1))
    logs = [math.log(many.time.value / one.time.value) for many, one in zip(slow, fast, strict=True)]
    hints = [many.predicted / one.predicted for many, one in zip(slow, fast, strict=True)]
    error = math.sqrt(sum(value.error**2 for value in (*slow, *fast)))
    claim = "1b: where agents' data differ, the speed-up of consensus grows with the batch alone (batch 2 to 1)"
    return above_one(claim, hints[0] / hints[1], math.exp(logs[0] - logs[1]), error)


def _theory(found: dict[_Case, _Found]) -> Check:
    """Compare all exit times with theory."""
    gaps = {case: abs(value.log - math.log(value.predicted)) for case, value in found.items()}
    beyond = {case: gaps[case] - SURE * value.error for case, value in found.items()}
    worst = max(beyond, key=lambda case: beyond[case] / found[case].dropped)
    return Check(
        f"1: exit times are those of the network's effective potential ({len(found)} networks; |log ratio|)",
        0.0,
        f"{np.mean(list(gaps.values())):.2g} on average, {max(gaps.values()):.2g} at most",
        f"beyond its 95 % interval, each at most μ h (1 + ΔJ / D), here {found[worst].dropped:.2g}",
        all(beyond[case] <= value.dropped for case, value in found.items()),
    )


def _rows(found: dict[_Case, _Found]) -> list[dict[str, Any]]:
    """Convert the results to rows of a table."""
    return [
        {
            "strategy": case.strategy, "graph": case.graph, "step": case.step, "batch": case.batch,
            "data": "different" if case.unlike else "the same", "spectral_gap": value.gap,
            "disagreement": value.disagreement, "predicted": value.predicted, "mean": value.time.value,
            "lower": value.time.lower, "upper": value.time.upper, "exits": value.time.happened,
        }
        for case, value in found.items()
    ]  # fmt: skip


def _draw(found: dict[_Case, _Found]) -> Drawing:
    figure, axes = grid(5, share_x=False, share_y=False)
    rows = _rows(found)
    ring = {"strategy": "consensus", "graph": "ring", "step": 1.0, "batch": 2, "data": "the same"}
    panels: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("step", "step, over the smallest", ("step",)),
        ("batch", "batch size per agent", ("batch", "strategy", "data")),
        ("spectral_gap", "spectral gap of the graph", ("graph",)),
        ("disagreement", "disagreement V", ("strategy", "graph", "data")),
    )
    for ax, (key, text, free) in zip(axes, panels, strict=False):
        shown = [row for row in rows if all(row[name] == value for name, value in ring.items() if name not in free)]
        split = ("strategy", "data") if key == "batch" else ()
        names = list(dict.fromkeys(", ".join(row[name] for name in split) for row in shown))
        for name, style in styles(names).items():
            own = sorted((r for r in shown if ", ".join(r[n] for n in split) == name), key=lambda row: row[key])
            xs = [row[key] for row in own]
            ax.plot(xs, [row["predicted"] for row in own], color=style.color, linestyle=style.line, label=name)
            ax.errorbar(xs, [r["mean"] for r in own], _bars(own), color=style.color, marker=style.marker, ls="")
        ax.set_xlabel(text)
        if split:
            outside_legend(ax, title="strategy, data")
    last = axes[-1]
    ends = [min(row["predicted"] for row in rows), max(row["predicted"] for row in rows)]
    last.plot(ends, ends, color=ink(), linewidth=1)
    last.errorbar([row["predicted"] for row in rows], [row["mean"] for row in rows], _bars(rows), marker="o", ls="")
    last.set_xscale("log")
    last.set_xlabel("predicted mean exit time (steps)")
    for ax in axes:
        ax.set_yscale("log")
        ax.set_ylabel("mean exit time (steps)")
        label_log_axes(ax)
    caption = (
        f"From a well of w⁴/4 − w²/2 with {AGENTS} agents, changing one factor at a time from consensus on a ring with "
        "two samples per step. Lines: mean passage time in the network's effective potential; markers: maximum "
        "likelihood, with 95 % intervals."
    )
    return Drawing("exit_scaling", "What exit times depend on", caption, figure, rows)


def _bars(rows: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Return the lengths of the error bars below and above, [2, n]."""
    means, lower, upper = (np.array([row[name] for row in rows], dtype=float) for name in ("mean", "lower", "upper"))
    return np.stack([means - lower, np.minimum(upper, 1e12) - means])
