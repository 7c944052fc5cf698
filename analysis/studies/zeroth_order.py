"""LOZO and MeZO: what training without gradients costs in evaluations, and what it saves in memory."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor, nn, optim

from basinet.algorithms.optimizers import LOZO, LOZOM, MeZO
from basinet.algorithms.optimizers.derivative_free.directional import DirectionalOptimizer
from basinet.analysis.drawing.data import Row
from basinet.analysis.drawing.style import grid, ink, label_log_axes, outside_legend, styles
from basinet.analysis.report.gallery import Drawing
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.peak_memory import PeakMemory
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.config import Config
from basinet.sim.setup.setup import Setup

__all__ = ["zeroth_order"]

Steps = Annotated[int, Field(ge=1, le=10**9)]

_RANK = 6
"""k: the quadratic has k × k directions that matter."""

_SHAPE = (24, 20)
_TOLERANCE = 0.01
_TARGET = 1.0
_BATCH = 2048
_BACKWARD = 2
"""A backward pass costs about two forward passes."""


def zeroth_order(progress: Progress, *, runs: Count = 100, replicas: Count = 3, steps: Steps = 2000) -> Findings:
    """Count evaluations to a target for MeZO, LOZO and SGD, and the memory that they hold.

    Args:
        progress: Is told how far the study is.
        runs: Independent runs on the quadratic.
        replicas: Independent runs on the digits.
        steps: Steps on the digits at most.

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
    for done, method in enumerate(_METHODS):
        progress(0.2 + 0.75 * done / len(_METHODS), f"digits, {method.label}")
        find = partial(_train, method, replicas, steps)
        trained.append(once("digits", find, method=method.label, replicas=replicas, steps=steps))
    memory = [once("memory", partial(_memory, name, make), method=name) for name, make in _OPTIMIZERS.items()]
    costs = {row["method"]: row["evaluations"] for row in map(_best, trained)}
    progress(1.0, "network")
    return Findings(
        title="Training without gradients: evaluations and memory",
        about=[
            f"Quadratic: J(X) = ½ ‖Pᵀ X Q‖² on {_SHAPE[0]} × {_SHAPE[1]} matrices, with k = {_RANK} orthonormal columns"
            " in P and in Q. The mean of J falls by the factor 1 − 2μ + μ²κ a step, with κ = k² + 2 for MeZO and"
            " κ = k² + 2 + (4k + 2)/r for LOZO with fresh factors: 2 κ ln(1/tol) evaluations at the best rate μ = 1/κ,"
            f" however large the matrices are. {runs} runs each.",
            "Digits: an MLP 64-32-10 from its initial values, batches of 64, until the loss of all training data is"
            f" below {_TARGET:g}; each method at the best learning rate of a grid, {replicas} runs each. A step of MeZO"
            f" or LOZO takes two evaluations; a gradient is counted as {1 + _BACKWARD}. The published comparisons of"
            " LOZO with MeZO are of language models, each method at a learning rate of its own.",
            f"Memory: of one step of an MLP 784-512-512-10 in float32, batch {_BATCH}: what is kept between steps, and"
            " the most that is held beside this and the parameters. MeZO and LOZO keep no activations; they hold a copy"
            " of the parameters while they evaluate, so that these come back bit by bit. It is as large as a gradient:"
            " where activations are small, they hold no less than SGD.",
        ],
        checks=[*_rate_checks(fresh), *_lazy_checks(lazy), *_cost_checks(costs), *_memory_checks(memory), *_travel()],
        drawings=[
            Drawing(
                "quadratic",
                "Evaluations on a quadratic of low rank",
                "Mean and standard deviation over the runs; lines: what the theory says. Left: new factors at each"
                " step, at the best rate. Right: V is kept for ν steps, at half the best rate of ν = 1.",
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
                "What is held beside the parameters.",
                _draw_memory(memory),
                memory,
            ),
        ],
        sources=[
            "Y. Chen, Y. Zhang, L. Cao, K. Yuan, Z. Wen: Enhancing zeroth-order fine-tuning for language models with"
            " low-rank structures, ICLR 2025, arXiv:2410.07698.",
            "S. Malladi et al.: Fine-tuning language models with just forward passes, NeurIPS 2023, arXiv:2305.17333.",
        ],
    )


def _quadratic(rank: int | None, period: int, share: float, runs: int) -> Row:
    """Count the evaluations until J has fallen to the tolerance, at `share` of the rate that is best for ν = 1."""
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


@dataclass(frozen=True)
class _Method:
    """A method on the digits: its optimizer, the learning rates that are tried, and what a step costs."""

    label: str
    optimizer: dict[str, Any]
    rates: tuple[float, ...]
    cost: int = 2


_RATES = (0.005, 0.007, 0.01, 0.014)
_METHODS = (
    _Method("SGD", {"name": "sgd"}, (0.25, 0.5, 1.0), cost=1 + _BACKWARD),
    _Method("MeZO", {"name": "mezo"}, _RATES),
    _Method("LOZO, r = 2, ν = 1", {"name": "lozo", "rank": 2, "period": 1}, _RATES),
    _Method("LOZO, r = 2, ν = 50", {"name": "lozo", "rank": 2, "period": 50}, _RATES),
    _Method("LOZO-M, r = 4, ν = 50", {"name": "lozo_m", "rank": 4, "period": 50}, _RATES),
)


def _train(method: _Method, replicas: int, steps: int) -> list[list[Row]]:
    """Train on the digits at each learning rate, until all runs have reached the target, or one has diverged."""
    curves = []
    for rate in method.rates:
        block = _digits(method.optimizer | {"lr": rate}, agents=1, replicas=replicas, strategy="isolated")
        data = tuple(t.expand(replicas, *t.shape) for t in block.task.train)
        every = 20 if method.cost == 2 else 2
        curve: list[Row] = []
        reached = torch.zeros(replicas, dtype=torch.bool)
        for step in range(0, steps + 1, every):
            block.advance(step)
            losses = block.engine.losses(data, block.unread_keys)
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
    """Make agents that train an MLP on the digits."""
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
    setup = Setup.build(Config.parse(config))
    return Block(setup, Placement.split(replicas, agents), torch.device("cpu"))


def _reached(curve: list[Row]) -> float:
    """Average over the runs the evaluations to the target; infinite if one did not get there."""
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


_OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], optim.Optimizer]] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=1e-3),
    "SGD, momentum": lambda parameters: optim.SGD(parameters, lr=1e-3, momentum=0.9),
    "Adam": lambda parameters: optim.Adam(parameters, foreach=False),
    "MeZO": MeZO,
    "LOZO, r = 2": LOZO,
    "LOZO-M, r = 2": LOZOM,
}


def _memory(name: str, make: Callable[[Iterable[nn.Parameter]], optim.Optimizer]) -> Row:
    """Count the bytes of the second step of an MLP."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]
        model, x, y = nn.Sequential(*layers), torch.randn(_BATCH, 784), torch.randint(10, (_BATCH,))
    optimizer = make(model.parameters())

    def evaluate() -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    def step() -> None:
        if isinstance(optimizer, DirectionalOptimizer):
            optimizer.step(evaluate)
        else:
            optimizer.zero_grad()
            evaluate().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    step()
    optimizer.zero_grad()
    kept = [t for held in optimizer.state.values() for t in held.values() if isinstance(t, Tensor) and t.ndim]
    with PeakMemory() as memory:
        step()
    parameters = list(model.parameters())
    return {
        "method": name,
        "parameters": sum(4 * p.numel() for p in parameters),
        "kept": sum(t.untyped_storage().nbytes() for t in kept),
        # and the number of its period, for each parameter
        "momentum of low rank": sum(4 * len(p) * (2 if p.ndim > 1 else 1) + 8 for p in parameters),
        "transient": memory.peak,
    }


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


def _memory_checks(memory: list[Row]) -> list[Check]:
    rows = {row["method"]: row for row in memory}
    low, parameters = rows["LOZO-M, r = 2"], rows["MeZO"]["parameters"]
    checks = [
        Check.near(f"bytes kept by {method}", expected, rows[method]["kept"], within=0)
        for method, expected in {
            "MeZO": 0,
            "LOZO, r = 2": 0,
            "LOZO-M, r = 2": low["momentum of low rank"],
            "SGD, momentum": parameters,
            "Adam": 2 * parameters,
        }.items()
    ]
    less = {name: rows[name]["transient"] / rows["SGD"]["transient"] for name in ("MeZO", "LOZO, r = 2")}
    return checks + [
        Check(f"bytes held for a step, {name} over SGD", "no activations", ratio, "below 1", ratio < 1)
        for name, ratio in less.items()
    ]


def _travel() -> list[Check]:
    """Let five agents average their coefficients."""
    block = _digits({"name": "lozo", "lr": 0.005, "shared": True}, agents=5, replicas=1, strategy="centralized")
    block.advance(10)
    sent = block.bytes_sent / 10 / 5
    apart = float((block.x - block.x[:1]).abs().max())
    claim = "bytes that an agent and the server exchange a step, directions shared"
    return [Check.near(claim, 8, sent, within=0), Check.near("how far agents then are apart", 0, apart, within=0)]


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
    ax.set_xlabel("evaluations (a gradient counts three)")
    ax.set_ylabel("training loss")
    outside_legend(ax)
    label_log_axes(ax)
    return figure


def _draw_memory(memory: list[Row]) -> Figure:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    names = [row["method"] for row in memory]
    kept, transient = ([row[key] / 2**20 for row in memory] for key in ("kept", "transient"))
    ax.barh(names, kept, color="#0072B2", label="kept between steps")
    ax.barh(names, transient, left=kept, color="#E69F00", hatch="//", label="held during a step")
    ax.axvline(memory[0]["parameters"] / 2**20, color=ink(), linestyle=":", label="the parameters themselves")
    ax.invert_yaxis()
    ax.set_xlabel("MiB")
    outside_legend(ax)
    return figure
