"""LOZO and MeZO: the cost in evaluations and the savings in memory of training without gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor, nn

from basinet.algorithms.optimizers import LOZO, MeZO
from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import ink, styles
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.optimizer_memory import BATCH, COMPARED, draw_memory, memory_checks, memory_of
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.data.nests import map_nest
from basinet.sim.experiment.config import Config
from basinet.sim.run.records import Row
from basinet.sim.setup.build import build_setup

__all__ = ["METHODS", "Method", "find_out", "zeroth_order"]

Steps = Annotated[int, Field(ge=1, le=10**9)]

_RANK = 6
"""k: the quadratic has k × k nonzero eigenvalues."""

_SHAPE = (24, 20)
_TOLERANCE = 0.01
_TARGET = 1.0
_BACKWARD = 2
"""A backward pass costs about two forward passes."""


@dataclass(frozen=True)
class Method:
    """A method on the digits.

    Attributes:
        label: Its label.
        optimizer: Its settings without the learning rate.
        rates: The learning rates tried.
        cost: Evaluations per step.
    """

    label: str
    optimizer: dict[str, Any]
    rates: tuple[float, ...]
    cost: int = 2


_RATES = (0.005, 0.007, 0.01, 0.014)
METHODS = (
    Method("SGD", {"name": "sgd"}, (0.25, 0.5, 1.0), cost=1 + _BACKWARD),
    Method("MeZO", {"name": "mezo"}, _RATES),
    Method("LOZO, r = 2, ν = 1", {"name": "lozo", "rank": 2, "period": 1}, _RATES),
    Method("LOZO, r = 2, ν = 50", {"name": "lozo", "rank": 2, "period": 50}, _RATES),
    Method("LOZO-M, r = 4, ν = 50", {"name": "lozo_m", "rank": 4, "period": 50}, _RATES),
)
"""The methods of the study."""


def zeroth_order(progress: Progress, *, runs: Count = 100, replicas: Count = 3, steps: Steps = 2000) -> Findings:
    """Count evaluations to a target for MeZO, LOZO and SGD, and the memory that they hold.

    Args:
        progress: Called with the fraction done and a description.
        runs: Independent runs on the quadratic.
        replicas: Independent runs on the digits.
        steps: Maximum number of steps on the digits.

    Returns:
        The findings.
    """
    return find_out(progress, METHODS, runs=runs, replicas=replicas, steps=steps)


def find_out(progress: Progress, methods: Sequence[Method], *, runs: int, replicas: int, steps: int) -> Findings:
    """Count the evaluations of some methods.

    Args:
        progress: Called with the fraction done and a description.
        methods: The methods on the digits.
        runs: Independent runs on the quadratic.
        replicas: Independent runs on the digits.
        steps: Maximum number of steps on the digits.

    Returns:
        The findings.
    """

    def quadratic(rank: int | None, period: int, share: float) -> Row:
        find = partial(_quadratic, rank, period, share, runs)
        return once("quadratic", find, rank=rank, period=period, share=share, runs=runs)

    fresh = [quadratic(rank, 1, 1.0) for rank in (None, 1, 2, 4, 8)]
    progress(0.1, "quadratic")
    lazy = [quadratic(2, period, 0.5) for period in (1, 2, 5, 10, 50)]
    progress(0.2, "quadratic, V kept")
    trained = []
    for done, method in enumerate(methods):
        progress(0.2 + 0.75 * done / len(methods), f"digits, {method.label}")
        find = partial(_train, method, replicas, steps)
        trained.append(once("digits", find, method=method.label, replicas=replicas, steps=steps))
    memory = [once("memory", partial(memory_of, name, make), method=name) for name, make in COMPARED.items()]
    costs = {row["method"]: row["evaluations"] for row in map(_best, trained)}
    progress(1.0, "network")
    return Findings(
        title="Training without gradients: evaluations and memory",
        about=[
            f"Quadratic: J(X) = ½ ‖Pᵀ X Q‖² on {_SHAPE[0]} × {_SHAPE[1]} matrices, with k = {_RANK} orthonormal columns"
            " in P and in Q. The mean of J falls by the factor 1 − 2μ + μ²κ per step, with κ = k² + 2 for MeZO and"
            " κ = k² + 2 + (4k + 2)/r for LOZO with fresh factors: 2 κ ln(1/tol) evaluations at the best rate μ = 1/κ,"
            f" however large the matrices are. {runs} runs each.",
            "Digits: an MLP 64-32-10 from its initial values, batches of 64, until the loss of all training data is"
            f" below {_TARGET:g}; each method at the best learning rate of a grid, {replicas} runs each. A step of MeZO"
            f" or LOZO takes two evaluations; a gradient is counted as {1 + _BACKWARD}. The published comparisons of"
            " LOZO with MeZO use language models, with a separate learning rate for each method.",
            f"Memory: for one step of an MLP 784-512-512-10 in float32, batch {BATCH}: the state kept between steps,"
            " and the peak of everything else besides the parameters. MeZO and LOZO keep no activations; they hold a"
            " copy of the parameters during evaluation, to restore them exactly. It is as large as a gradient: if"
            " activations are small, they hold no less than SGD.",
        ],
        checks=[*_rate_checks(fresh), *_lazy_checks(lazy), *_cost_checks(costs), *memory_checks(memory), *_travel()],
        drawings=[
            Drawing(
                "quadratic",
                "Evaluations on a quadratic of low rank",
                "Mean and standard deviation over the runs; lines: theory. Left: new factors at each step, at the best"
                " rate. Right: V is kept for ν steps, at half the best rate of ν = 1.",
                _draw_quadratic(fresh, lazy),
                [*fresh, *lazy],
            ),
            Drawing(
                "digits",
                "Training loss against evaluations",
                "Mean over the runs, each method at the rate that reaches the target first; dotted: the target.",
                _draw_curves(trained),
                [row for runs_of_one in trained for row in _best_curve(runs_of_one)],
            ),
            Drawing(
                "memory",
                "Memory of a step",
                "Memory held besides the parameters.",
                draw_memory(memory),
                memory,
            ),
        ],
        sources=[
            "Chen, Zhang, Cao, Yuan, Wen: Enhancing zeroth-order fine-tuning for language models with low-rank"
            " structures, ICLR 2025, arXiv:2410.07698.",
            "Malladi et al.: Fine-tuning language models with just forward passes, NeurIPS 2023, arXiv:2305.17333.",
        ],
    )


def _quadratic(rank: int | None, period: int, share: float, runs: int) -> Row:
    """Count the evaluations until J has fallen to the tolerance, at a fraction `share` of the best rate for ν = 1."""
    kappa = _RANK**2 + 2 + (0 if rank is None else (4 * _RANK + 2) / rank)
    generator = torch.Generator().manual_seed(0)
    shapes = [(size, _RANK) for size in _SHAPE]
    p, q = (torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64))[0] for shape in shapes)
    start = p @ torch.randn(_RANK, _RANK, generator=generator, dtype=torch.float64) @ q.mT
    x = nn.Parameter(start.expand(runs, *_SHAPE).clone())
    settings: dict[str, Any] = {"lr": share / kappa, "agents": runs}
    optimizer = MeZO([x], **settings) if rank is None else LOZO([x], rank=rank, period=period, **settings)

    def risks() -> Tensor:
        core: Tensor = p.mT @ x @ q
        return core.square().sum((1, 2)) / 2

    goal = _TOLERANCE * risks().detach()
    reached = torch.zeros(runs, dtype=torch.float64)
    fall = 1 - 2 * share / kappa + share**2 / kappa
    predicted = 2 * math.log(_TOLERANCE) / math.log(fall)
    for step in range(round(10 * predicted)):
        optimizer.step(risks)
        now = risks().detach() <= goal
        reached = torch.where((reached == 0) & now, 2.0 * (step + 1), reached)
        if bool((reached > 0).all()):
            break
    reached[reached == 0] = math.inf
    return {
        "method": "MeZO" if rank is None else f"LOZO, r = {rank}",
        "period": period,
        "predicted": 2 * kappa * math.log(1 / _TOLERANCE) if share == 1 else predicted,
        "evaluations": float(reached.mean()),
        "spread": float(reached.std()),
    }


def _train(method: Method, replicas: int, steps: int) -> list[list[Row]]:
    """Train on the digits at each learning rate, until all runs have reached the target or one has diverged."""
    curves = []
    for rate in method.rates:
        block = _digits(method.optimizer | {"lr": rate}, agents=1, replicas=replicas, strategy="isolated")
        data = map_nest(lambda t: t.expand(replicas, *t.shape), block.task.train)
        every = 20 if method.cost == 2 else 2
        curve: list[Row] = []
        reached = torch.zeros(replicas, dtype=torch.bool)
        for step in range(0, steps + 1, every):
            block.advance(step)
            losses = block.oracle.engine.losses(data, block.keys("model"))
            curve += [
                {"method": method.label, "lr": rate, "evaluations": method.cost * step, "replica": r, "loss": loss}
                for r, loss in enumerate(losses.tolist())
            ]
            reached |= losses < _TARGET
            if bool(reached.all()) or not bool((losses < 10).all()):
                break
        curves.append(curve)
    return curves


def _digits(optimizer: dict[str, Any], *, agents: int, replicas: int, strategy: str) -> Block:
    """Set up agents that train an MLP on the digits."""
    config = {
        "task": "digits",
        "model": {"name": "mlp", "hidden": [32]},
        "topology": {"name": "complete", "agents": agents},
        "strategy": strategy,
        "optimizer": optimizer,
        "batch_size": 64,
        "replicas": replicas,
        "runtime": {"device": "cpu"},
    }
    setup = build_setup(Config.parse(config))
    return Block(setup, Placement.split(replicas, agents), torch.device("cpu"))


def _reached(curve: list[Row]) -> float:
    """Return the mean number of evaluations to the target over the runs; infinite if one did not reach it."""
    first: dict[int, float] = {row["replica"]: math.inf for row in curve}
    for row in reversed(curve):
        if row["loss"] < _TARGET:
            first[row["replica"]] = row["evaluations"]
    return sum(first.values()) / len(first)


def _best_curve(curves: list[list[Row]]) -> list[Row]:
    return min(curves, key=_reached)


def _best(curves: list[list[Row]]) -> Row:
    curve = _best_curve(curves)
    return {"method": curve[0]["method"], "lr": curve[0]["lr"], "evaluations": _reached(curve)}


def _rate_checks(fresh: list[Row]) -> list[Check]:
    return [
        Check.near(
            f"evaluations on the quadratic, {row['method']}", row["predicted"], row["evaluations"], row["spread"]
        )
        for row in fresh
    ]


def _lazy_checks(lazy: list[Row]) -> list[Check]:
    ratio = lazy[-1]["evaluations"] / lazy[0]["evaluations"]
    claim = f"evaluations on the quadratic with ν = {lazy[-1]['period']}, over those with ν = 1"
    return [Check(claim, "keeping V saves none", ratio, "not below 1", ratio >= 1)]


def _cost_checks(costs: dict[str, float]) -> list[Check]:
    checks = []
    for method, cost in costs.items():
        if method.startswith("LOZO"):
            ratio = cost / costs["MeZO"]
            claim = f"evaluations on the digits, {method}, over those of MeZO"
            checks.append(Check(claim, "κ is no smaller", ratio, "not below 1", ratio >= 1))
    ratio = costs["MeZO"] / costs["SGD"]
    checks.append(
        Check("evaluations on the digits, MeZO over SGD", "d + 2 at most", ratio, "1 to 2412", 1 < ratio < 2412)
    )
    return checks


def _travel() -> list[Check]:
    """Check a step in which five agents average their coefficients."""
    block = _digits({"name": "lozo", "lr": 0.005, "shared": True}, agents=5, replicas=1, strategy="centralized")
    block.advance(10)
    sent = block.channel.bytes_sent / 10 / 5
    apart = float((block.x - block.x[:1]).abs().max())
    claim = "bytes that an agent and the server exchange per step with shared directions"
    return [Check.near(claim, 8, sent, within=0), Check.near("distance of the agents afterwards", 0, apart, within=0)]


def _draw_quadratic(fresh: Sequence[Row], lazy: Sequence[Row]) -> Figure:
    figure, (left, right) = grid(2, share_x=False, share_y=True)
    for ax, rows, names in (
        (left, fresh, [row["method"].removeprefix("LOZO, ") for row in fresh]),
        (right, lazy, [str(row["period"]) for row in lazy]),
    ):
        places = range(len(rows))
        means, spreads = ([row[key] for row in rows] for key in ("evaluations", "spread"))
        ax.errorbar(places, means, yerr=spreads, fmt="o", capsize=3, label="measured")
        ax.set_xticks(list(places), names)
    left.plot([row["predicted"] for row in fresh], "_", color=ink(), markersize=18, label="2 κ ln(1/tol)")
    right.axhline(lazy[0]["predicted"], color=ink(), linestyle=":", label="theory, ν = 1")
    left.set_ylabel("evaluations")
    left.set_xlabel("LOZO with fresh factors of rank r")
    right.set_xlabel("LOZO, r = 2: steps ν for which V is kept")
    left.set_ylim(bottom=0)
    for ax in (left, right):
        outside_legend(ax)
    return figure


def _draw_curves(trained: list[list[list[Row]]]) -> Figure:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    looks = styles(curves[0][0]["method"] for curves in trained)
    for curves in trained:
        points: dict[float, list[float]] = {}
        for row in _best_curve(curves):
            points.setdefault(row["evaluations"], []).append(row["loss"])
        label = curves[0][0]["method"]
        places, means = list(points)[1:], [sum(v) / len(v) for v in list(points.values())[1:]]
        ax.plot(places, means, color=looks[label].color, linestyle=looks[label].line, label=label)
    ax.axhline(_TARGET, color=ink(), linestyle=":", linewidth=1)
    ax.set_xscale("log")
    ax.set_xlabel("evaluations (a gradient counts as three)")
    ax.set_ylabel("training loss")
    outside_legend(ax)
    label_log_axes(ax)
    return figure
