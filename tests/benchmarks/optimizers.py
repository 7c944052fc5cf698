"""Optimizers of low rank: agents stacked against one after the other, and a step without gradients against two losses.

The steps of GaLore and GoLore are those within a period, where its subspaces stay.
"""

from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
from torch import nn

from basinet.algorithms.optimizers import LOZO, LOZOM, GaLore, GoLore, MeZO
from tests.benchmarks.harness import Row, Step, in_turn

AGENTS = 16

STACKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "GaLore": (GaLore, {"rank": 8, "momentum": 0.9}),
    "GoLore with AdamW": (GoLore, {"rank": 8, "base": "adamw"}),
}
TWO_LOSSES: dict[str, Any] = {"LOZO": LOZO, "LOZO-M": LOZOM, "MeZO": MeZO}


def _shapes(width: int) -> list[tuple[int, ...]]:
    """Shapes of the weights of a transformer's layer."""
    return [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width), (width,)]


def _row(group: str, work: str, target: tuple[str, float] | None, base: str, ours: Step, theirs: Step) -> Row:
    times = in_turn(ours, theirs)
    row = Row(group, work, target, base=base)
    row.ours_ms, row.base_ms = (median(1e3 * t[i].cpu for t in times) for i in (0, 1))
    row.ours_wall_ms = median(1e3 * own.wall for own, _ in times)
    row.ratios = [own.cpu / base.cpu for own, base in times]
    return row


def stacked() -> Iterator[Row]:
    """Measure how many times as long as one stacked optimizer its agents' own ones take."""
    for name, (kind, settings) in STACKED.items():
        for width in (16, 64, 256):
            together = [nn.Parameter(torch.randn(AGENTS, *shape)) for shape in _shapes(width)]
            alone = [[nn.Parameter(p[n].detach().clone()) for p in together] for n in range(AGENTS)]
            for p in (*together, *(q for layers in alone for q in layers)):
                p.grad = torch.randn_like(p)
            one = kind(together, lr=1e-6, period=10**9, agents=AGENTS, **settings)
            each = [kind(layers, lr=1e-6, period=10**9, **settings) for layers in alone]

            def separately(each: list[Any] = each) -> None:
                for optimizer in each:
                    optimizer.step()

            work = f"{name}, {AGENTS} agents one after the other, a transformer's layer of width {width}"
            yield _row("subspaces", work, (">=", 3.0), "the agents stacked", separately, one.step)


def two_losses() -> Iterator[Row]:
    """Measure steps without gradients against the two evaluations that they need."""
    for name, kind in TWO_LOSSES.items():
        for width, batch in ((256, 64), (1024, 64), (1024, 1024)):
            model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            inputs = torch.randn(batch, width)
            optimizer = kind(model.parameters(), lr=1e-6)

            def loss(model: nn.Module = model, inputs: torch.Tensor = inputs) -> torch.Tensor:
                result: torch.Tensor = model(inputs).square().mean()
                return result

            @torch.no_grad()
            def evaluations(loss: Any = loss) -> None:
                loss()
                loss()

            def step(optimizer: Any = optimizer, loss: Any = loss) -> None:
                optimizer.step(loss)

            target = ("<=", 1.15) if kind is LOZO else None
            work = f"{name}, two layers of width {width}, batch {batch}"
            yield _row("two losses", work, target, "two evaluations", step, evaluations)
