"""Many repetitions of a descent at once: how large the gradient is on the way."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from basinet.algorithms.draws import fold, key
from basinet.algorithms.optimizers import NSGD
from basinet.sim.tasks import Ripples

__all__ = ["Descent", "mean_gradient_norms"]

_CHUNK = 200
"""Steps whose noise is drawn at once."""


class Descent(NamedTuple):
    """A method, as an optimizer class and its settings."""

    kind: type[NSGD]
    settings: Mapping[str, Any]


def mean_gradient_norms(
    task: Ripples,
    descents: Mapping[str, Descent],
    steps: int,
    *,
    start: float = 3.0,
    repeats: int = 16,
    skip: float = 0.0,
    looks: int = 1000,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Tensor]:
    """Average ‖∇J(x_t)‖ over the steps t of descents that see the same noise.

    The repetitions are the agents of one optimizer. The norm is that of the true gradient. (The least of the norms is
    no measure: it is that of a random walk that comes by.)

    Args:
        task: The landscape, with its noise.
        descents: The methods by name.
        steps: How many steps each takes.
        start: Where every coordinate starts.
        repeats: How many repetitions R.
        skip: The part of the steps that is left out of the average, from the first one on.
        looks: At how many steps, evenly spaced, the norm is taken at least, or at all.
        seed: Seed of the noise.
        advance: Is told how many steps have been taken since it was last called.

    Returns:
        For each method the averages of the repetitions, [R].
    """
    points = [nn.Parameter(torch.full((repeats, task.num_outputs), start, dtype=torch.float64)) for _ in descents]
    optimizers = [
        descent.kind([x], agents=repeats, **descent.settings)
        for x, descent in zip(points, descents.values(), strict=True)
    ]
    keys = fold(torch.tensor(key(seed, "descents", steps)), torch.arange(repeats))
    looked_at = range(int(skip * steps), steps, max(1, steps // looks))
    totals = [torch.zeros(repeats, dtype=torch.float64) for _ in descents]
    for first in range(0, steps, _CHUNK):
        chunk = range(first, min(first + _CHUNK, steps))
        samples = _samples(task, fold(keys, torch.tensor(chunk)[:, None]))
        for x, optimizer, total in zip(points, optimizers, totals, strict=True):
            for t in chunk:
                if t in looked_at:
                    total += torch.linalg.vector_norm(task.gradient(x.detach()), dim=1)
                optimizer.step(_closure(task, x, samples[t - first]))
        advance(len(chunk) * len(descents))
    return {name: total / len(looked_at) for name, total in zip(descents, totals, strict=True)}


def _samples(task: Ripples, keys: Tensor) -> Tensor:
    """Draw one sample for each key [T, R]: tilts, and ε where there is multiplicative noise, [T, R, M or M + 1]."""
    agents = torch.zeros(keys.numel(), dtype=torch.int64)
    return task.draw(keys.flatten(), agents, 1, torch.float64)[1].view(*keys.shape, -1)


def _closure(task: Ripples, x: nn.Parameter, sample: Tensor) -> Callable[[], None]:
    tilt, factor = sample[:, : task.num_outputs], 1 + sample[:, task.num_outputs :].sum(1, keepdim=True)

    def closure() -> None:
        x.grad = task.gradient(x.detach()).mul_(factor).add_(tilt)

    return closure
