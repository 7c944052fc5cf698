"""Memory of optimizers, counted tensor by tensor."""

from collections.abc import Callable, Iterable

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn, optim

from basinet.algorithms.optimizers import LOZO, LOZOM, MeZO
from basinet.algorithms.optimizers.derivative_free.directional import DirectionalOptimizer
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import ink
from basinet.analysis.studies.peak_memory import PeakMemory
from basinet.analysis.studies.study import Check
from basinet.sim.run.records import Row

__all__ = ["BATCH", "COMPARED", "draw_memory", "memory_checks", "memory_of", "memory_of_step"]


BATCH = 2048
"""Batch size of the step whose memory is counted."""

COMPARED: dict[str, Callable[[Iterable[nn.Parameter]], optim.Optimizer]] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=1e-3),
    "SGD, momentum": lambda parameters: optim.SGD(parameters, lr=1e-3, momentum=0.9),
    "Adam": lambda parameters: optim.Adam(parameters, foreach=False),
    "MeZO": MeZO,
    "LOZO, r = 2": LOZO,
    "LOZO-M, r = 2": LOZOM,
}
"""The optimizers whose memory is counted."""


def memory_of(name: str, make: Callable[[Iterable[nn.Parameter]], optim.Optimizer]) -> Row:
    """Count the bytes of the second step of an MLP 784-512-512-10 in float32.

    Args:
        name: Name of the optimizer.
        make: Constructs the optimizer.

    Returns:
        `method`, and what `memory_of_step` counts.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]
        model, x, y = nn.Sequential(*layers), torch.randn(BATCH, 784), torch.randint(10, (BATCH,))
    optimizer = make(model.parameters())

    def evaluate() -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    return {"method": name, **memory_of_step(optimizer, evaluate)}


def memory_of_step(optimizer: optim.Optimizer, evaluate: Callable[[], Tensor]) -> Row:
    """Count the bytes of the second step of an optimizer in float32.

    Args:
        optimizer: The optimizer of all trained parameters.
        evaluate: Computes the loss.

    Returns:
        The bytes of the `parameters`, of the state `kept` between steps, of the `momentum of low rank` that LOZO-M
        should keep at its rank, 2 by default, and the peak of everything else during the step (`transient`).
    """

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
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    rank = optimizer.param_groups[0].get("rank", 2)
    return {
        "parameters": sum(4 * p.numel() for p in parameters),
        "kept": sum(t.untyped_storage().nbytes() for t in kept),
        # plus the index of its period, for each parameter
        "momentum of low rank": sum(4 * len(p) * (rank if p.ndim > 1 else 1) + 8 for p in parameters),
        "transient": memory.peak,
    }


def memory_checks(memory: list[Row]) -> list[Check]:
    """Compare the state that optimizers keep with what they should keep.

    Args:
        memory: Rows from `memory_of`.

    Returns:
        The checks.
    """
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


def draw_memory(memory: list[Row]) -> Figure:
    """Draw the memory that optimizers keep between steps and hold during one.

    Args:
        memory: Rows from `memory_of`.

    Returns:
        The figure.
    """
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
