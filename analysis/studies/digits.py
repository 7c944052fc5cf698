"""Claims about flatness and optimization on an over-parameterised network: digits with noisy labels."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, stdtrit
from torch import nn

from basinet.analysis.measure import measure_point
from basinet.analysis.plots.gallery import Drawing
from basinet.analysis.plots.style import grid, label_log_axes, outside_legend, styles
from basinet.analysis.plots.survival import plot_survival, survival_rows
from basinet.analysis.studies.claims import AGENTS, STRATEGIES, Sizes, interval, make_block, part_of
from basinet.analysis.studies.study import Check, Progress
from basinet.analysis.survival import kaplan_meier
from basinet.analysis.theory import stability_limit
from basinet.sim.block import Block
from basinet.sim.state import load_vector

__all__ = ["digits_claims", "nested_errors", "paired"]

Array = NDArray[np.float64]
Row = dict[str, Any]

_MLP = {"name": "mlp", "hidden": [24], "activation": "tanh"}
_SAMPLES = 448
_PARTS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5)
"""Lengths of centralised trainings that the others are compared with at the same training loss."""

_DECAY = {"name": "step", "milestones": [0.8]}


def _block(label: str, *, batch: int, lr: float, steps: int, replicas: int, model: Any = None, **more: Any) -> Block:
    """Set up replicas of a network of 1810 parameters on 448 digits, of whose labels a fifth are wrong."""
    task = {"name": "digits", "train_size": _SAMPLES, "label_noise": more.pop("label_noise", 0.2)}
    own = {
        "task": {**task, "partition": more.pop("partition", "shared")},
        "model": _MLP if model is None else copy.deepcopy(model),
        "batch_size": batch,
        "steps": steps,
    }
    return make_block(label, lr=lr, replicas=replicas, **own, **more)


def _measure(block: Block, *, flat: bool = True) -> Iterator[Row]:
    """Measure each replica's centroid: training loss, test accuracy, λ_max and trace."""
    task = block.setup.task.to(block.x.device, torch.float64)
    model = block.setup.template().to(block.x.device, torch.float64).eval()
    for centroid in block.mixer.centroid(block.x).double():
        load_vector(model, centroid, {})
        found: Row = dict(task.evaluate(model))
        if flat:
            found |= measure_point(model, task, ["hessian_top_eigenvalue", "hessian_trace"])
        yield found


def _agents_loss(block: Block) -> Array:
    """Return the mean training loss of each replica's agents."""
    task, model = block.setup.task.to(block.x.device, block.x.dtype), block.setup.template().to(block.x).eval()
    with torch.no_grad():
        losses = [float(task.loss(load_vector(model, x, {}), task.train)) for x in block.x]
    means: Array = np.reshape(losses, (-1, AGENTS)).mean(axis=1)
    return means


def paired(a: ArrayLike, b: ArrayLike) -> tuple[float, float, float]:
    """Compare paired samples.

    Args:
        a: Values.
        b: Values of the same replicas.

    Returns:
        Mean difference a − b and the ends of its 95 % t-interval.

    Example:
        >>> [round(number, 3) for number in paired([3.0, 4.0, 5.0], [1.0, 3.0, 2.0])]
        [2.0, -0.484, 4.484]
    """
    d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    half = float(stdtrit(len(d) - 1, 0.975)) * float(d.std(ddof=1)) / math.sqrt(len(d))
    return float(d.mean()), float(d.mean()) - half, float(d.mean()) + half


def _larger(claim: str, a: ArrayLike, b: ArrayLike) -> Check:
    """Check that a is larger than b, by the paired difference."""
    if np.size(a) < 2:
        return Check(claim, "above 0", "too few pairs", "the paired 95 % interval lies above 0", agrees=False)
    mean, low, high = paired(a, b)
    return Check(claim, "above 0", interval(mean, low, high), "the paired 95 % interval lies above 0", low > 0)


def digits_claims(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """Test the claims on digits.

    Args:
        progress: Is told how far it is.
        sizes: How much is done.

    Returns:
        Checks and figures.
    """
    checks, drawings = _from_a_common_minimum(part_of(progress, 0.0, 0.35), sizes)
    more, figures = _from_random_starts(part_of(progress, 0.35, 0.65), sizes)
    return checks + more, drawings + figures


def _from_a_common_minimum(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """All strategies start where centralised training has ended; the step grows with the batch."""
    replicas, samples, level = sizes.seeds, sizes.samples, 0.1
    teacher = _block("centralized", batch=16, lr=0.5, steps=5 * samples // 16, replicas=1, schedule=_DECAY)
    teacher.advance(5 * samples // 16)
    start = load_vector(teacher.setup.template(), teacher.mixer.centroid(teacher.x)[0].to("cpu", torch.float32), {})
    left: dict[tuple[str, int], tuple[Array, NDArray[np.bool_]]] = {}
    losses: dict[str, Array] = {}
    for index, (batch, label) in enumerate((batch, label) for batch in (2, 8) for label in STRATEGIES):
        progress(index / 7, f"digits: {label} from a common minimum, batch {batch}")
        steps = samples // batch
        block = _block(
            label, batch=batch, lr=batch / 16, steps=steps, replicas=replicas, model=start,
            escape={"name": "risk_above", "level": level},
        )  # fmt: skip
        block.advance(steps)
        assert block.escape is not None
        found = block.escape.steps.cpu().numpy()
        left[label, batch] = np.where(found > 0, found, steps).astype(float), found > 0
        if batch == 8:
            losses[label] = _agents_loss(block)
    checks = [
        _larger(
            f"1: {fast} leaves a minimum of digits sooner than {slow} (log ratio of exit steps, batch 8; "
            "who has not left counts with the last step)",
            np.log(left[slow, 8][0]),
            np.log(left[fast, 8][0]),
        )
        for slow, fast in (("centralized", "diffusion ATC"), ("diffusion ATC", "consensus"))
    ]
    for label in ("diffusion ATC", "consensus"):
        small, large = (_share(left[label, batch][1]) for batch in (2, 8))
        text = f"{interval(*small)} at batch 2, {interval(*large)} at batch 8"
        claim = f"1b: {label} leaves a minimum of digits more often with the larger batch and step (share that leaves)"
        checks.append(Check(claim, "larger", text, "the 95 % intervals do not overlap", large[1] > small[2]))
    claim = "3: the agents' loss from a common minimum of digits is larger with consensus than with diffusion"
    checks.append(_larger(claim, losses["consensus"], losses["diffusion ATC"]))
    progress(6 / 7, "digits: curvature at which consensus can rest")
    checks += _caps(start, sizes)
    curves = {label: kaplan_meier(*left[label, 8]) for label in STRATEGIES}
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    plot_survival(curves, ax=ax)
    ax.set_xscale("symlog", linthresh=1)
    caption = (
        "From one minimum of digits, batch 8, step size 0.5: share of replicas whose training loss has not yet risen "
        f"by {level} (Kaplan and Meier, pointwise 95 % intervals)."
    )
    return checks, [Drawing("digits_survival", "Leaving a minimum of digits", caption, figure, survival_rows(curves))]


def _share(happened: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return a share and the ends of its 95 % interval (Clopper and Pearson)."""
    n, d = len(happened), int(happened.sum())
    low = float(betaincinv(d, n - d + 1, 0.025)) if d else 0.0
    return d / n, low, float(betaincinv(d + 1, n - d, 0.975)) if d < n else 1.0


def _caps(start: nn.Module, sizes: Sizes) -> list[Check]:
    """The largest eigenvalue where consensus and diffusion go with whole-shard gradients, from a sharp minimum."""
    lr, steps = 0.5, sizes.samples // 16
    tops = {}
    for label in ("diffusion ATC", "consensus"):
        block = _block(
            label, batch=_SAMPLES // AGENTS, lr=lr, steps=steps, replicas=sizes.seeds, model=start, partition="iid",
            sampling="epochs",
        )  # fmt: skip
        block.advance(steps)
        tops[label] = np.array([row["hessian_top_eigenvalue"] for row in _measure(block)])
        weights = block.setup.weights
    cap = stability_limit("consensus", weights, 1.0) / lr
    mean, low, high = paired(tops["consensus"], np.zeros(len(tops["consensus"])))
    other = float(tops["diffusion ATC"].mean())
    return [
        Check(
            f"6: consensus ends at a λ_max below (1 + λ_min(W)) / μ on digits (diffusion: {other:.3g})",
            cap,
            interval(mean, low, high),
            "the 95 % interval reaches no more than 5 % above it",
            low <= 1.05 * cap,
        )
    ]


def _from_random_starts(progress: Progress, sizes: Sizes) -> tuple[list[Check], list[Drawing]]:
    """All strategies start from the same random parameters; the step grows with the batch."""
    rows: list[Row] = []
    batches = (2, 8, 16)
    cases = [(batch, label) for batch in batches for label in STRATEGIES]
    for index, (batch, label) in enumerate(cases):
        progress(index / (len(cases) + 4), f"digits: {label} from random starts, batch {batch}")
        steps = 4 * sizes.samples // batch
        block = _block(label, batch=batch, lr=batch / 8, steps=steps, replicas=sizes.seeds, schedule=_DECAY)
        block.advance(steps)
        rows += [
            {"strategy": label, "batch": batch, "replica": replica, **found}
            for replica, found in enumerate(_measure(block))
        ]
    shorter = []
    for part in _PARTS:
        progress(len(cases) / (len(cases) + 4), f"digits: centralized, {part:g} of the steps")
        steps = round(part * 4 * sizes.samples / 16)
        block = _block("centralized", batch=16, lr=2.0, steps=steps, replicas=sizes.seeds, schedule=_DECAY)
        block.advance(steps)
        shorter.append(list(_measure(block)))
    clean = {}
    for index, label in enumerate(STRATEGIES):
        progress((len(cases) + 1 + index) / (len(cases) + 4), f"digits: {label}, clean labels")
        steps = 2 * sizes.samples // 16
        block = _block(label, batch=16, lr=2.0, steps=steps, replicas=sizes.seeds, schedule=_DECAY, label_noise=0.0)
        block.advance(steps)
        clean[label] = np.array([row["test_accuracy"] for row in _measure(block, flat=False)])

    def get(metric: str, label: str, batch: int) -> Array:
        return np.array([row[metric] for row in rows if (row["strategy"], row["batch"]) == (label, batch)])

    checks = []
    for batch in (2, 16):
        for flat, sharp in (("diffusion ATC", "centralized"), ("consensus", "diffusion ATC")):
            claim = f"2: {flat} ends flatter than {sharp} on digits, batch {batch} (log ratio of λ_max)"
            tops = (np.log(get("hessian_top_eigenvalue", label, batch)) for label in (sharp, flat))
            checks.append(_larger(claim, *tops))
    claim = "3: diffusion fits digits better than consensus, batch 16 (log ratio of training losses)"
    losses = (np.log(get("train_loss", label, 16)) for label in ("consensus", "diffusion ATC"))
    checks.append(_larger(claim, *losses))
    for label in ("diffusion ATC", "consensus"):
        claim = f"4: {label} is more accurate than centralised training on digits with wrong labels, batch 16"
        checks.append(_larger(claim, get("test_accuracy", label, 16), get("test_accuracy", "centralized", 16)))
    for label in ("diffusion ATC", "consensus"):
        matched = _at_the_loss(shorter, get("train_loss", label, 16))
        known = np.isfinite(matched["test_accuracy"])
        than = f"a shorter centralised training with the same training loss ({known.sum()} of {len(known)} replicas)"
        accuracies = get("test_accuracy", label, 16), matched["test_accuracy"]
        checks.append(_larger(f"4, control: {label} is more accurate than {than}", *(a[known] for a in accuracies)))
        logs = matched["hessian_top_eigenvalue"], np.log(get("hessian_top_eigenvalue", label, 16))
        checks.append(_larger(f"2, control: {label} is flatter than {than} (log λ_max)", *(a[known] for a in logs)))
    claim = "4: diffusion is more accurate than consensus on digits with clean labels, batch 16"
    checks.append(_larger(claim, clean["diffusion ATC"], clean["consensus"]))
    checks += _regressions(rows)
    return checks, [_draw_plane(rows)]


def _at_the_loss(runs: Sequence[Sequence[Row]], losses: Array) -> dict[str, Array]:
    # Replica by replica, between trainings of different length; beyond the shortest and the longest nothing is known.
    found: dict[str, list[float]] = {"test_accuracy": [], "hessian_top_eigenvalue": []}
    for replica, wanted in enumerate(losses):
        ends = sorted((run[replica] for run in runs), key=lambda end: -end["train_loss"])
        fallen = [-math.log(end["train_loss"]) for end in ends]
        for metric, values in found.items():
            series = [end[metric] if metric == "test_accuracy" else math.log(end[metric]) for end in ends]
            values.append(float(np.interp(-math.log(wanted), fallen, series, left=math.nan, right=math.nan)))
    return {metric: np.array(values) for metric, values in found.items()}


def nested_errors(features: Mapping[str, ArrayLike], target: ArrayLike, groups: ArrayLike) -> dict[str, Array]:
    """Predict a target by linear regressions on one feature, on another, and on all of them, cross-validated.

    Each group in turn is left out and predicted from the others.

    Args:
        features: Values by name, [n] each.
        target: What is to be predicted, [n].
        groups: Which points belong together, [n].

    Returns:
        The mean squared error on each group, [G]: by "nothing" but the mean, by each name, and by "all".

    Example:
        >>> x, y = np.arange(12.0), np.arange(12.0) % 5
        >>> errors = nested_errors({"x": x, "y": y}, 2 * x - y, np.arange(12) // 3)
        >>> bool(errors["all"].max() < 1e-20 < errors["x"].min())
        True
    """
    y, of = np.asarray(target, dtype=float), np.asarray(groups)
    sets: dict[str, list[str]] = {"nothing": [], **{name: [name] for name in features}, "all": list(features)}
    errors: dict[str, Array] = {}
    for label, names in sets.items():
        design = np.column_stack([np.ones(len(y)), *(np.asarray(features[name], dtype=float) for name in names)])
        found = []
        for group in np.unique(of):
            out = of == group
            weights = np.linalg.lstsq(design[~out], y[~out], rcond=None)[0]
            found.append(float(((y[out] - design[out] @ weights) ** 2).mean()))
        errors[label] = np.array(found)
    return errors


def _regressions(rows: Sequence[Row]) -> list[Check]:
    """Does accuracy follow from flatness and training loss together better than from either?"""
    features = {
        "flatness": np.log([row["hessian_top_eigenvalue"] for row in rows]),
        "optimization": np.log([row["train_loss"] for row in rows]),
    }
    accuracy, replicas = [row["test_accuracy"] for row in rows], [row["replica"] for row in rows]
    errors = nested_errors(features, accuracy, replicas)
    explained = {name: 1 - error.mean() / errors["nothing"].mean() for name, error in errors.items()}
    checks = []
    for alone, other in (("flatness", "optimization"), ("optimization", "flatness")):
        mean, low, high = paired(errors[alone] / errors["nothing"].mean(), errors["all"] / errors["nothing"].mean())
        claim = (
            f"5: {other} tells more of the accuracy than {alone} does alone (cross-validated R² "
            f"{explained[alone]:.2f} → {explained['all']:.2f}; gain)"
        )
        rule = "the paired 95 % interval lies above 0"
        checks.append(Check(claim, "above 0", interval(mean, low, high), rule, low > 0))
    return checks


def _draw_plane(rows: Sequence[Row]) -> Drawing:
    batches = sorted({row["batch"] for row in rows})
    figure: Figure
    figure, axes = grid(len(batches), share_x=True, share_y=True)
    for ax, batch in zip(axes, batches, strict=True):
        for label, style in styles(STRATEGIES).items():
            own = [row for row in rows if (row["strategy"], row["batch"]) == (label, batch)]
            ax.scatter(
                [row["hessian_top_eigenvalue"] for row in own], [row["train_loss"] for row in own],
                c=[row["test_accuracy"] for row in own], marker=style.marker, edgecolors=style.color, label=label,
                cmap="viridis", vmin=min(row["test_accuracy"] for row in rows),
                vmax=max(row["test_accuracy"] for row in rows),
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(f"batch {batch}", fontsize="medium")
        ax.set_xlabel("λ_max (smaller is flatter)")
        label_log_axes(ax)
    axes[0].set_ylabel("training loss")
    outside_legend(axes[-1])
    caption = (
        "Digits with wrong labels from random starts: where each replica ends. The brighter, the more accurate on the "
        "clean test set; the step grows with the batch."
    )
    return Drawing("plane", "Flatness, optimization and accuracy", caption, figure, list(rows))
