"""Normalised SGD under heavy-tailed noise: decay of the gradient norm with the number of steps."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from basinet.algorithms.draws import key
from basinet.algorithms.optimizers import (
    ANSGDC,
    NSGD,
    NSGDC,
    NSGDCVR,
    NSGDm,
    OptimizerTraits,
    heavy_tail_rate,
    heavy_tail_settings,
)
from basinet.algorithms.optimizers.tunings import Method
from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import legend_below_panels
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import GREY, styles
from basinet.analysis.measures.tail_index import hill
from basinet.analysis.studies.descents import Descent, mean_gradient_norms
from basinet.analysis.studies.journal import kept, record
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.sim.data.gradient_noise import Noise
from basinet.sim.run.records import Row
from basinet.sim.tasks.landscapes.ripples import ripples

__all__ = ["edge_noise_of", "heavy_tails", "noise_of", "slope", "tuned"]

_ORDERS = (1.2, 1.5, 1.8, 2.0)
_METHODS: dict[str, type[NSGD]] = {
    "NSGDC": NSGDC,
    "NSGDm, p unknown": NSGDm,
    "NSGDC-VR": NSGDCVR,
    "A-NSGDC": ANSGDC,
}
_PROBLEM: dict[str, Any] = {"smoothness": 2.0, "gap": 21.72, "gradient": 2.56}
"""L, Δ and ‖∇J‖ at the start 3 (1, …, 1) of the task `ripples` in ten dimensions."""

_HESSIAN_LIPSCHITZ = 2.9
_TOLERANCE = 0.03
_SKEWED: dict[str, Any] = {"law": "skewed_pareto", "tail": 1.6, "p": 1.5, "size": 3.0, "shape": "line"}
_QUIET, _ASKEW = "no noise", "skewed noise, p = 1.5"


def noise_of(p: float) -> dict[str, Any]:
    """Describe noise whose p-th moment is one and whose moments slightly beyond p are infinite.

    Args:
        p: The order, in (1, 2]; with 2 the noise is Gaussian.

    Returns:
        Attributes of `Noise`: symmetric Pareto noise of tail index p + 0.1 in a random direction, and multiplicative
        noise of the same distribution, since additive noise alone would not exercise variance reduction.
    """
    if p == 2:
        return {"size": ripples().num_outputs ** -0.5, "multiplicative": 0.3}
    return {"law": "pareto", "tail": p + 0.1, "p": p, "shape": "radial", "multiplicative": 0.3}


def edge_noise_of(p: float) -> dict[str, Any]:
    """Describe noise whose moments are finite below order p and infinite at p.

    Args:
        p: The tail index, in (1, 2).

    Returns:
        Attributes of `Noise`: radii of at least 1 with tail index p, in a random direction; the factor on the gradient
        has the same distribution, with mean size 0.3.
    """
    return {"law": "pareto", "tail": p, "p": 1.0, "size": p / (p - 1), "shape": "radial", "multiplicative": 0.3}


def tuned(kind: type[NSGD], steps: int, p: float | None, sigma: float = 1.0) -> Descent:
    """Choose an optimizer's settings for a horizon according to the theory.

    Args:
        kind: The optimizer class.
        steps: The horizon T.
        p: The order of the bounded moment; None if it is unknown.
        sigma: The size of the noise.

    Returns:
        The descent.
    """
    more: dict[str, Any] = {"hessian_lipschitz": _HESSIAN_LIPSCHITZ} if kind is ANSGDC else {}
    return Descent(kind, heavy_tail_settings(_method(kind), steps=steps, p=p, sigma=sigma, **_PROBLEM, **more))


def _method(kind: type[NSGD]) -> Method:
    method = OptimizerTraits.of(kind).tuning
    assert method is not None
    return method


def slope(rows: Sequence[Row]) -> float:
    """Fit the slope of log gradient norm over log T by least squares.

    Args:
        rows: `steps` and `gradient_norm` of one method.

    Returns:
        The slope.
    """
    x = [math.log(row["steps"]) for row in rows]
    centre = sum(x) / len(x)
    weights = [value - centre for value in x]
    heights = (math.log(row["gradient_norm"]) for row in rows)
    return sum(w * y for w, y in zip(weights, heights, strict=True)) / sum(w * w for w in weights)


class _Job(NamedTuple):
    """Descents that are run together: noise by condition, horizon, methods, and the skipped fraction of steps."""

    conditions: Mapping[str, Mapping[str, Any] | float]
    steps: int
    descents: Mapping[str, Descent]
    skip: float = 0.0

    @property
    def cost(self) -> int:
        """Number of steps in total."""
        return self.steps * len(self.descents)


def heavy_tails(
    progress: Progress,
    *,
    horizons: Annotated[Sequence[Annotated[int, Field(ge=1, le=10**9)]], Field(min_length=2)] = (1000, 10_000, 100_000),
    repeats: Count = 16,
    processes: Count | None = None,
) -> Findings:
    """Measure the rates of normalised SGD under heavy-tailed gradient noise.

    Args:
        progress: Called with the fraction done and a description.
        horizons: Numbers of steps T.
        repeats: Repetitions of each descent.
        processes: Number of processes; by default the number of processors.

    Returns:
        The findings.
    """
    plan = list(_plan(horizons))
    done, total, found = 0, sum(job.cost for job in plan), dict[int, list[Row]]()
    progress(0.0, f"0 of {len(plan)} descents")
    for place, some in _run_all(plan, repeats, processes or len(os.sched_getaffinity(0))):
        found[place] = some
        done += plan[place].cost
        progress(done / total, f"{len(found)} of {len(plan)} descents")
    rows = [row for place in range(len(plan)) for row in found[place]]
    norms = Noise.parse(noise_of(1.5)).vectors(torch.tensor([key(0, "norms")]), 20_000, 10)[0].norm(dim=1)
    return Findings(
        title="Normalised SGD under heavy-tailed noise",
        about=[
            "The gradient noise has moments up to the order p and hardly any beyond: E‖noise‖^p = 1, tail index "
            "p + 0.1 (symmetric Pareto; Gaussian for p = 2), and a factor on the gradient with the same tails, 0.3 as "
            "large. Each method has the settings of the theory for a horizon of T steps, and the mean norm of the true "
            f"gradient over these steps is measured, over {repeats} repetitions. The task is `ripples` in ten "
            "dimensions.",
            "If the tail index is p itself, the moment of order p is just infinite: E‖noise‖^q is finite for every q "
            "below p. Radii are then at least 1, P(‖noise‖ > x) = x^−p, and the methods are set as if σ were 1. This "
            "is at the edge of the theory's assumptions, and the slopes may be less steep.",
            "If p is unknown, the theory gives only a weaker upper bound: the measured rate may be faster.",
            "Without momentum, normalised steps follow the median of the noise: if its mean is zero and its median is "
            "not, they stop where the gradient is minus the median. Symmetric noise does not show this.",
        ],
        checks=[*_checks(rows), _hill_check(norms)],
        drawings=[
            Drawing("rates", "Gradient norm against the horizon", _RATES_CAPTION, _draw(rows, _by_order()), rows),
            Drawing(
                "edge",
                "Where the moment of order p is infinite",
                "As above, under noise whose tail index is p itself.",
                _draw(rows, _at_the_edge()),
                [row for row in rows if row["condition"] in _at_the_edge()],
            ),
            Drawing(
                "floors",
                "Without noise, and without momentum",
                "Left: no noise; dotted: the slope −1/2. Right: one-sided noise along a fixed direction; of NSGD, "
                "which has no momentum, the mean over the second half of the steps; dotted: the mean of the noise "
                "minus its median, and the slope of NSGDC.",
                _draw(rows, _extremes()),
                [row for row in rows if row["condition"] in (_QUIET, _ASKEW)],
            ),
            _hill_drawing(norms),
        ],
        sources=[
            "Sun, Liu, Yuan: Revisiting gradient normalization and clipping for nonconvex SGD under heavy-tailed "
            "noise: necessity, sufficiency, and acceleration, JMLR 26, 2025, arXiv:2410.16561.",
            "Liu, Zhou: Nonconvex stochastic optimization under heavy-tailed noises: optimal convergence without "
            "gradient clipping, ICLR 2025, arXiv:2412.19529 (p unknown).",
        ],
    )


def _plan(horizons: Sequence[int]) -> Iterator[_Job]:
    """List the jobs of the study."""
    everywhere = {name: noise for p in _ORDERS for name, noise in _noises(p).items()}
    for steps in horizons:
        yield _Job({_QUIET: 0.0}, steps, {"NSGD": tuned(NSGD, steps, 2.0, sigma=0.0)})
        for p in _ORDERS:
            for name, kind in _METHODS.items():
                if "unknown" not in name:
                    yield _Job(_noises(p), steps, {name: tuned(kind, steps, p)})
        unknown = next(name for name in _METHODS if "unknown" in name)
        yield _Job(everywhere, steps, {unknown: tuned(_METHODS[unknown], steps, None)})
        yield _Job({_ASKEW: _SKEWED}, steps, {"NSGD": tuned(NSGD, steps, 1.5)}, skip=0.5)
        yield _Job({_ASKEW: _SKEWED}, steps, {"NSGDC": tuned(NSGDC, steps, 1.5, sigma=_SKEWED["size"])})


def _noises(p: float) -> dict[str, dict[str, Any]]:
    """Return the noises for methods set for p, by condition."""
    edge = {_edge(p): edge_noise_of(p)} if p < 2 else {}
    return {_inside(p): noise_of(p), **edge}


def _inside(p: float) -> str:
    return f"p = {p:g}"


def _edge(p: float) -> str:
    return f"tail index p = {p:g}"


def _run_all(plan: Sequence[_Job], repeats: int, processes: int) -> Iterator[tuple[int, list[Row]]]:
    """Run a plan in several processes; yield the index and rows of each job as soon as it is done."""
    told = [_in_plain(job, repeats) for job in plan]
    known = {place: rows for place in range(len(plan)) for rows in kept("descent", **told[place])}
    yield from known.items()
    longest_first = sorted(set(range(len(plan))) - set(known), key=lambda place: (-plan[place].cost, place))
    if not longest_first:
        return
    pool = Parallel(min(processes, len(longest_first)), return_as="generator_unordered", batch_size=1)
    for place, rows in pool(delayed(_run_at)(place, plan[place], repeats) for place in longest_first):
        yield place, record("descent", rows, **told[place])


def _in_plain(job: _Job, repeats: int) -> dict[str, Any]:
    return {"conditions": list(job.conditions), "steps": job.steps, "methods": list(job.descents), "repeats": repeats}


def _run_at(place: int, job: _Job, repeats: int) -> tuple[int, list[Row]]:
    return place, _run(job, repeats)


def _run(job: _Job, repeats: int) -> list[Row]:
    """Run the descents of a job, and tabulate their means by method and noise."""
    quiet = list(job.conditions) == [_QUIET]
    found = mean_gradient_norms(
        [ripples(noise=noise) for noise in job.conditions.values()],
        job.descents,
        job.steps,
        repeats=1 if quiet else repeats,
        skip=job.skip,
        looks=job.steps if quiet else 1000,  # without noise the norm becomes periodic, so every step counts
    )
    return [
        _row(condition, name, job.steps, values)
        for name, means in found.items()
        for condition, values in zip(job.conditions, means, strict=True)
    ]


def _row(condition: str, name: str, steps: int, values: Tensor) -> Row:
    error = float(values.std()) / len(values) ** 0.5 if len(values) > 1 else None
    mean = float(values.mean())
    return {"condition": condition, "method": name, "steps": steps, "gradient_norm": mean, "standard_error": error}


def _series(rows: Sequence[Row], condition: str) -> dict[str, list[Row]]:
    """Group the rows of a condition by method."""
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row["condition"] == condition:
            series.setdefault(row["method"], []).append(row)
    return series


def _rate(method: str, p: float) -> float:
    return heavy_tail_rate(_method(_METHODS[method]), p, known="unknown" not in method)


def _checks(rows: Sequence[Row]) -> Iterator[Check]:
    """Compare the measured slopes with the rates of the theory."""
    quiet = _series(rows, _QUIET)["NSGD"]
    yield Check.near("slope without noise", -0.5, slope(quiet), within=0.01)
    orders = {condition: p for p in _ORDERS for condition in _noises(p)}
    for condition, p in orders.items():
        for name, found in _series(rows, condition).items():
            rate, measured = _rate(name, p), slope(found)
            if "unknown" in name:
                rule = f"at most {_TOLERANCE:g} above"
                yield Check(f"slope of {name}; {condition}", rate, measured, rule, measured <= rate + _TOLERANCE)
            else:
                yield Check.near(f"slope of {name}, {condition}", rate, measured, within=_TOLERANCE)
    askew = _series(rows, _ASKEW)
    last = askew["NSGD"][-1]
    # Exact for small steps; those here may change the gradient by L μ.
    change = _PROBLEM["smoothness"] * heavy_tail_settings("nsgd", steps=last["steps"], **_PROBLEM)["lr"]
    yield Check.near("where NSGD without momentum stops", _floor(), last["gradient_norm"], within=change)
    yield Check.near("slope of NSGDC, skewed noise, p = 1.5", _rate("NSGDC", 1.5), slope(askew["NSGDC"]), _TOLERANCE)


def _floor() -> float:
    """Return the mean of the skewed noise, zero, minus its median."""
    noise = Noise.parse(_SKEWED)
    return -noise.size * noise.median


def _hill_check(norms: Tensor) -> Check:
    tail, found = noise_of(1.5)["tail"], hill(norms)
    inside = found.low <= tail <= found.high
    rule = f"in {found.low:.3g} to {found.high:.3g}, 95 %"
    return Check("tail index of the noise, p = 1.5", tail, found.value, rule, inside)


_RATES_CAPTION = (
    "Mean over the steps of the norm of the true gradient, and over the repetitions (the standard errors are smaller "
    "than the markers), against the horizon T. Dotted: lines of the slopes that the theory predicts, through the first "
    "point. Both axes are logarithmic."
)


def _by_order() -> dict[str, dict[str, float]]:
    return {_inside(p): {name: _rate(name, p) for name in _METHODS} for p in _ORDERS}


def _at_the_edge() -> dict[str, dict[str, float]]:
    return {_edge(p): {name: _rate(name, p) for name in _METHODS} for p in _ORDERS if p < 2}


def _extremes() -> dict[str, dict[str, float]]:
    return {_QUIET: {"NSGD": -0.5}, _ASKEW: {"NSGDC": _rate("NSGDC", 1.5)}}


def _draw(rows: Sequence[Row], slopes: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw one panel per condition, with dotted lines of the given slopes."""
    figure, axes = grid(len(slopes), share_x=False, share_y=False)
    looks = styles(["NSGD", *_METHODS])
    labelled: dict[str, Any] = {}
    for ax, (condition, predicted) in zip(axes, slopes.items(), strict=True):
        for name, found in _series(rows, condition).items():
            x, y = [row["steps"] for row in found], [row["gradient_norm"] for row in found]
            style = looks[name]
            (labelled[name],) = ax.plot(x, y, marker=style.marker, color=style.color, linestyle=style.line)
            if name in predicted:
                line = [y[0] * (steps / x[0]) ** predicted[name] for steps in x]
                ax.plot(x, line, color=style.color, linestyle=":", linewidth=1)
        if condition == _ASKEW:
            ax.axhline(_floor(), color=looks["NSGD"].color, linestyle=":", linewidth=1)
        ax.set(xscale="log", yscale="log", title=condition, xlabel="horizon T")
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("mean gradient norm")
    for ax in axes:
        label_log_axes(ax)
    legend_below_panels(figure, list(labelled.values()), list(labelled))
    return figure


def _hill_drawing(norms: Tensor) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    fractions = [0.002 * 1.25**n for n in range(21)]
    found = [hill(norms, fraction=fraction) for fraction in fractions]
    rows = [found._asdict() for found in found]
    places = [row["largest"] for row in rows]
    ax.plot(places, [row["value"] for row in rows], color="#0072B2")
    ax.fill_between(places, [row["low"] for row in rows], [row["high"] for row in rows], color="#0072B2", alpha=0.18)
    ax.axhline(noise_of(1.5)["tail"], color=GREY, linestyle=":")
    ax.set(xscale="log", xlabel="largest values used, k", ylabel="tail index")
    ax.grid(alpha=0.25)
    caption = (
        f"Hill's estimate of the tail index of the noise for p = 1.5, from the k largest of {len(norms)} norms, with "
        "95 % intervals. Dotted: the true index."
    )
    return Drawing("tail_index", "How heavy the tails are", caption, figure, rows)
