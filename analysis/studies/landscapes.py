"""Claims about flatness and optimization that can be tested where theory has closed forms: on landscapes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from basinet.analysis.plots.gallery import Drawing
from basinet.analysis.plots.style import grid, label_log_axes, outside_legend, styles
from basinet.analysis.plots.survival import plot_survival, survival_rows
from basinet.analysis.studies.study import Check, Progress
from basinet.analysis.survival import MeanTime, kaplan_meier, mean_time, speed_up
from basinet.analysis.theory import (
    Rule,
    felt_potential,
    mean_passage_time,
    stability_limit,
    steady_excess_risk,
    well_probability,
)
from basinet.sim.block import Block
from basinet.sim.config import Config
from basinet.sim.placement import Placement
from basinet.sim.setup import Setup
from basinet.sim.worker import pick_device

__all__ = ["FULL", "RULES", "SHORT", "Sizes", "interval", "landscape_claims", "part_of"]

Array = NDArray[np.float64]
Row = dict[str, Any]

RULES: dict[str, Rule] = {"centralized": "centralized", "diffusion ATC": "atc", "consensus": "consensus"}
"""The strategies by their labels, in the order in which they are claimed to leave a minimum."""

_STRATEGY = {"centralized": "centralized", "diffusion ATC": "diffusion", "consensus": "consensus"}
_AGENTS = 16
_AT_REST = 0.02
"""Agents rest if they stay this near to a minimum, as a part of its distance from the barrier."""

_SURE = float(ndtri(0.975))


def make_block(label: str, *, task: Mapping[str, Any], start: float, lr: float, replicas: int, **more: Any) -> Block:
    """Set up replicas of a network on a landscape.

    Args:
        label: The strategy.
        task: The landscape.
        start: Where every agent starts.
        lr: Step size.
        replicas: How many replicas.
        **more: Further keys of an experiment.

    Returns:
        All of them in one block.
    """
    config = Config.parse({
        "task": dict(task),
        "model": {"name": "point", "start": start},
        "topology": {"name": "ring", "agents": _AGENTS},
        "strategy": _STRATEGY[label],
        "optimizer": {"name": "sgd", "lr": lr},
        "batch_size": 1,
        "steps": 10**9,
        "replicas": replicas,
        **more,
    })  # fmt: skip
    setup = Setup.build(config)
    return Block(setup, Placement.split(replicas, _AGENTS), pick_device(config.runtime))


@dataclass(frozen=True)
class Sizes:
    """How much is done, from a test of the study to the study.

    Attributes:
        replicas: Replicas on landscapes.
        settled: Steps until the excess risk of a quadratic has settled.
        batches: Batches for which exit times are measured.
        visits: Steps for which two wells are visited.
        seeds: Replicas on digits.
        samples: Samples of digits that an agent sees from a common minimum; four times as many from a random start.
    """

    replicas: int
    settled: int
    batches: tuple[int, ...]
    visits: int
    seeds: int
    samples: int


FULL = Sizes(replicas=128, settled=240, batches=(1, 2, 4), visits=6000, seeds=16, samples=2000)
SHORT = Sizes(replicas=8, settled=20, batches=(4, 8), visits=100, seeds=3, samples=200)


def landscape_claims(progress: Progress, sizes: Sizes = FULL) -> tuple[list[Check], list[Drawing]]:
    """Test the claims on landscapes.

    Args:
        progress: Is told how far it is.
        sizes: How much is done.

    Returns:
        Checks and figures.
    """
    checks: list[Check] = []
    drawings: list[Drawing] = []
    parts: list[tuple[float, Callable[[Progress, Sizes], tuple[list[Check], list[Drawing]]]]] = [
        (0.15, _excess_risk),
        (0.45, _escape),
        (0.25, _wells),
        (0.15, _cap),
    ]
    done = 0.0
    for share, part in parts:
        more, figures = part(part_of(progress, done, share), sizes)
        checks += more
        drawings += figures
        done += share
    return checks, drawings


def part_of(progress: Progress, start: float, share: float) -> Progress:
    """Report on a part of the work.

    Args:
        progress: Is told how far the whole is.
        start: Where the part begins, from 0 to 1.
        share: How much of the whole it is.

    Returns:
        Is told how far the part is.
    """

    def part(done: float, what: str) -> None:
        progress(start + share * done, what)

    return part


def interval(value: float, lower: float, upper: float) -> str:
    """Write an effect with its interval.

    Args:
        value: The effect.
        lower: Lower end of its 95 % interval.
        upper: Upper end.

    Returns:
        Text such as "2.2 [1.8, 2.6]".
    """
    return f"{value:.3g} [{lower:.3g}, {upper:.3g}]"


def _excess_risk(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Excess risk on a quadratic, with agents whose data differ, for growing batches."""
    curvature, lr, scale = np.array([2.0, 1.0, 0.5]), 0.05, 0.2
    batches = (1, 4, 16)
    rows: list[Row] = []
    for index, (label, batch) in enumerate((label, batch) for label in RULES for batch in batches):
        progress(index / (len(RULES) * len(batches)), f"excess risk of {label}, batch {batch}")
        task = {"name": "quadratic", "curvature": curvature.tolist(), "heterogeneity": scale, "minimum": 0.0}
        block = make_block(label, task=task, start=0.0, lr=lr, replicas=2 * sizes.replicas, batch_size=batch)
        block.advance(sizes.settled)
        risks = block.task.value(block.x).view(-1, _AGENTS).mean(1).double()  # type: ignore[attr-defined]
        theory = steady_excess_risk(
            RULES[label], block.setup.weights, lr=lr, curvature=curvature, noise=np.ones(3) / batch,
            shifts=block.task.shifts.double().cpu().numpy(),  # type: ignore[attr-defined]
        )  # fmt: skip
        rows.append({
            "strategy": label, "batch": batch, "predicted": theory.total, "measured": float(risks.mean()),
            "error": float(risks.std() / math.sqrt(len(risks))),
        })  # fmt: skip
    found = {(row["strategy"], row["batch"]): row for row in rows}

    def ratio(label: str, other: str, batch: int) -> tuple[float, float, float]:
        """Ratio of excess risks, the standard error of its logarithm, and the predicted ratio."""
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
        checks.append(_above_one(f"{claim} (ratio, quadratic, batch 4)", predicted, value, error))
    for label in ("diffusion ATC", "consensus"):
        less, more = (ratio(label, "centralized", batch) for batch in (1, 16))
        claim = f"1b: the ratio of {label} to centralised grows with the batch (ratio of ratios, batch 16 to 1)"
        checks.append(_above_one(claim, more[2] / less[2], more[0] / less[0], math.hypot(more[1], less[1])))
    progress(1.0, "excess risk")
    return checks, [_draw_risk(rows)]


def _above_one(claim: str, predicted: float, value: float, error: float) -> Check:
    """Check that a ratio is above one, given the standard error of its logarithm."""
    low, high = value * math.exp(-_SURE * error), value * math.exp(_SURE * error)
    return Check(claim, predicted, interval(value, low, high), "the 95 % interval lies above 1", low > 1)


def _draw_risk(rows: Sequence[Row]) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for label, style in styles(RULES).items():
        own = [row for row in rows if row["strategy"] == label]
        batches = [row["batch"] for row in own]
        ax.plot(batches, [row["predicted"] for row in own], color=style.color, linestyle=style.line, label=label)
        errors = [_SURE * row["error"] for row in own]
        ax.errorbar(batches, [row["measured"] for row in own], errors, color=style.color, marker=style.marker, ls="")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("batch of an agent")
    ax.set_ylabel("mean excess risk of the agents")
    label_log_axes(ax)
    outside_legend(ax)
    caption = (
        "A quadratic with curvatures 2, 1 and 0.5, 16 agents on a ring whose data differ, step size 0.05. Lines: "
        "theory; markers with 95 % intervals: simulation."
    )
    return Drawing("excess_risk", "Excess risk at a minimum", caption, figure, list(rows))


def _quartic(w: Array) -> Array:
    return w**4 / 4 - w**2 / 2


def _bend(w: Array) -> Array:
    return 3 * w**2 - 1


def _exits(block: Block, predicted: float, progress: Progress, what: str) -> tuple[Array, NDArray[np.bool_]]:
    """Advance until three quarters of the replicas have left, or four times the predicted mean has passed."""
    assert block.escape is not None
    stride = max(50, round(predicted / 20))
    while block.step < 4 * predicted:
        block.advance(block.step + stride)
        share = float((block.escape.steps > 0).double().mean())
        progress(min(1.0, share / 0.75), what)
        if share >= 0.75:
            break
    steps = block.escape.steps.cpu().numpy()
    return np.where(steps > 0, steps, block.step).astype(float), steps > 0


def _escape(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Exit times from a well, the step growing with the batch; and with agents whose data differ."""
    height, unit = 3.0, 0.01
    diffusion = 0.25 / height
    times: dict[tuple[str, int], MeanTime] = {}
    expected: dict[tuple[str, int], float] = {}
    curves = {}
    cases = [(batch, label) for batch in sizes.batches for label in RULES]
    cost = [1 / batch for batch, _ in cases]
    for index, (batch, label) in enumerate(cases):
        begun = sum(cost[:index]) / sum(cost)
        # The noise of a batch of B samples and a step that is B times as large: D = μ σ² / (2 K B) stays the same.
        lr = unit * batch
        variance = 2 * _AGENTS * diffusion / lr
        task = {
            "name": "double_well", "sharp": 2.0, "flat": 2.0, "depth_sharp": 0.25, "depth_flat": 0.25,
            "noise": math.sqrt(variance * batch),
        }  # fmt: skip
        block = make_block(
            label, task=task, start=-1.0, lr=lr, replicas=sizes.replicas, batch_size=batch,
            escape={"name": "passes", "value": 0.5},
        )  # fmt: skip
        felt = felt_potential(
            RULES[label], block.setup.weights, _quartic, _bend, lr=lr, noise=variance, between=(-1.0, 0.5)
        )
        mean = mean_passage_time(felt, diffusion, start=-1.0, threshold=0.5, lr=lr)
        own = part_of(progress, begun, cost[index] / sum(cost))
        left, happened = _exits(block, mean, own, f"exit times of {label}, batch {batch}")
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
        checks.append(_above_one(claim, hints[1] / hints[0], gains[1].ratio / gains[0].ratio, error))
    rows = [
        {"strategy": label, "batch": batch, "predicted": expected[label, batch], "mean": time.value,
         "lower": time.lower, "upper": time.upper, "exits": time.happened}
        for (label, batch), time in times.items()
    ]  # fmt: skip
    means = {label: expected[label, middle] for label in RULES}
    return checks, [_draw_times(rows), _draw_survival(curves, means)]


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
    ax.set_xlabel("batch of an agent; the step grows with it")
    ax.set_ylabel("mean exit time (steps)")
    label_log_axes(ax)
    outside_legend(ax)
    caption = (
        "From a well of w⁴/4 − w²/2 with a barrier of 3 D, 16 agents on a ring with the same data. Lines: mean passage "
        "time in the potential that the network feels; markers: maximum likelihood, with 95 % intervals."
    )
    return Drawing("exit_times", "Time until a minimum is left", caption, figure, list(rows))


def _draw_survival(curves: Mapping[str, Any], means: Mapping[str, float]) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    plot_survival(curves, means=means, ax=ax)
    caption = (
        "Share of the replicas that are still in the well (Kaplan and Meier, pointwise 95 % intervals), and "
        "exponentials with the mean that theory predicts (thin)."
    )
    return Drawing("survival", "Who is still there", caption, figure, survival_rows(curves))


def _wells(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Which of a sharp and a flat minimum of the same depth is visited how often."""
    diffusion, lr = 0.2, 0.02
    variance = 2 * _AGENTS * diffusion / lr
    task = {"name": "double_well", "noise": math.sqrt(variance)}
    rows: list[Row] = []
    shares: dict[str, Array] = {}
    for index, label in enumerate(RULES):
        block = make_block(label, task=task, start=-0.816, lr=lr, replicas=sizes.replicas)
        landscape: Any = block.task

        def value(w: Array, landscape: Any = landscape) -> Array:
            return np.asarray(landscape.value(torch.tensor(w, dtype=landscape.origin.dtype)[..., None]).numpy(), float)

        (a, b), (sharp, flat) = landscape.minima.tolist(), landscape.curvatures.tolist()

        def bend(w: Array, a: float = a, b: float = b, sharp: float = sharp, flat: float = flat) -> Array:
            return np.where(w <= 0, sharp * (3 * (w / a) ** 2 - 1) / 2, flat * (3 * (w / b) ** 2 - 1) / 2)

        felt = felt_potential(RULES[label], block.setup.weights, value, bend, lr=lr, noise=variance, between=(a, b))
        predicted = well_probability(felt, diffusion, barrier=0.0, low=2 * a, high=2 * b)
        shares[label] = np.zeros(sizes.replicas)
        looks = 0
        for step in _looks(sizes.visits):
            block.advance(step)
            if step > sizes.visits // 3:
                shares[label] += (block.mixer.centroid(block.x)[:, 0] > 0).double().cpu().numpy()
                looks += 1
            progress((index + step / sizes.visits) / len(RULES), f"wells, {label}")
        shares[label] /= looks
        error = float(shares[label].std(ddof=1) / math.sqrt(sizes.replicas))
        rows.append({
            "strategy": label, "predicted": predicted, "measured": float(shares[label].mean()), "error": error,
            "curvature": sharp + (flat - sharp) * float(shares[label].mean()),
        })  # fmt: skip
    found = {row["strategy"]: row for row in rows}
    checks = []
    for claim, label, other in (
        ("2: diffusion spends more time in the flat well than centralised training", "diffusion ATC", "centralized"),
        ("2: consensus spends more time in the flat well than diffusion", "consensus", "diffusion ATC"),
    ):
        difference = found[label]["measured"] - found[other]["measured"]
        half = _SURE * math.hypot(found[label]["error"], found[other]["error"])
        predicted = found[label]["predicted"] - found[other]["predicted"]
        text = interval(difference, difference - half, difference + half)
        rule = "the 95 % interval lies above 0"
        checks.append(Check(f"{claim} (difference of shares)", predicted, text, rule, difference > half))
    return checks, [_draw_wells(rows)]


def _looks(last: int) -> Iterator[int]:
    """Yield the steps at which the replicas are looked at."""
    return iter(range(25, last + 1, 25))


def _draw_wells(rows: Sequence[Row]) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for place, (label, style) in enumerate(styles(RULES).items()):
        row = next(row for row in rows if row["strategy"] == label)
        ax.errorbar(
            [place], [row["measured"]], [_SURE * row["error"]], color=style.color, marker=style.marker, ls="", capsize=4
        )
        ax.hlines(row["predicted"], place - 0.25, place + 0.25, color=style.color, linestyle=style.line)
    ax.set_xticks(range(len(RULES)), list(RULES))
    ax.set_ylabel("share of time in the flat well")
    caption = (
        "Two wells of the same depth, 2.5 D below the barrier, with curvatures 6 and 1; every agent starts in the "
        "sharp one. Lines: density of the potential that the network feels; markers with 95 % intervals: simulation."
    )
    return Drawing("wells", "Which minimum is preferred", caption, figure, list(rows))


def _cap(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Up to which curvature a strategy rests at a minimum, almost without noise."""
    lr = 0.1
    bounds: dict[str, float] = {}
    stays: dict[str, list[tuple[float, bool]]] = {label: [] for label in RULES}
    rows: list[Row] = []
    factors = (0.8, 0.95, 1.05, 1.2)
    for index, (label, factor) in enumerate((label, factor) for label in RULES for factor in factors):
        progress(index / (len(RULES) * len(factors)), f"curvature at which {label} can rest")
        flat = make_block(label, task={"name": "double_well"}, start=0.0, lr=lr, replicas=1)
        bounds[label] = stability_limit(RULES[label], flat.setup.weights, 1.0) / lr
        sharp = factor * bounds[label]
        task = {"name": "double_well", "sharp": sharp, "flat": 1.0, "noise": 1e-3}
        width = math.sqrt(8 * 0.5 / sharp)
        block = make_block(label, task=task, start=-width, lr=lr, replicas=sizes.replicas)
        block.advance(600)
        x = block.x.view(-1, _AGENTS)
        rests = ((x + width).abs().amax(1) < _AT_REST * width).double().mean()
        stays[label].append((sharp, bool(rests > 0.5)))
        rows.append({"strategy": label, "curvature": sharp, "cap": bounds[label], "share_at_rest": float(rests)})
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
                f"rests up to {low:.3g}, not from {high:.3g} on",
                "the limit lies between",
                low < bounds[label] < high,
            )
        )
    return checks, [_draw_cap(rows)]


def _draw_cap(rows: Sequence[Row]) -> Drawing:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for label, style in styles(RULES).items():
        own = [row for row in rows if row["strategy"] == label]
        ax.plot(
            [row["curvature"] for row in own], [row["share_at_rest"] for row in own], label=label, color=style.color,
            marker=style.marker, linestyle=style.line,
        )  # fmt: skip
        ax.axvline(own[0]["cap"], color=style.color, linewidth=0.8)
    ax.set_xlabel("curvature of the minimum")
    ax.set_ylabel("share of replicas at rest after 600 steps")
    outside_legend(ax)
    caption = (
        "Every agent starts at a minimum, almost without noise, with the step size 0.1. Vertical lines: 2/μ, and "
        "(1 + λ_min(W))/μ for consensus."
    )
    return Drawing("cap", "Where a strategy can rest", caption, figure, list(rows))
