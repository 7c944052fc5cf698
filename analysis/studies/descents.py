"""Many repetitions of a descent at once: how large the gradient is on the way."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
    tasks: Sequence[Ripples],
    descents: Mapping[str, Descent],
    steps: int,
    *,
    start: float = 3.0,
    repeats: int = 16,
    skip: float = 0.0,
    looks: int = 1000,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Average ‖∇J(x_t)‖ over the steps t of descents that see the same draws.

    The repetitions on all tasks are the agents of one optimizer. The norm is that of the true gradient. (The least of
    the norms is no measure: it is that of a random walk that comes by.)

    Args:
        tasks: The same landscape S times, with noise of different laws.
        descents: The methods by name.
        steps: How many steps each takes.
        start: Where every coordinate starts.
        repeats: How many repetitions R.
        skip: The part of the steps that is left out of the average, from the first one on.
        looks: At how many steps, evenly spaced, the norm is taken at least, or at all.
        seed: Seed of the noise.

    Returns:
        For each method the averages of the repetitions, [S, R].
    """
    rows, gradient = len(tasks) * repeats, tasks[0].gradient
    points = [nn.Parameter(torch.full((rows, tasks[0].num_outputs), start, dtype=torch.float64)) for _ in descents]
    optimizers = [
        descent.kind([x], agents=rows, **descent.settings) for x, descent in zip(points, descents.values(), strict=True)
    ]
    keys = fold(torch.tensor(key(seed, "descents", steps)), torch.arange(repeats))
    looked_at = range(int(skip * steps), steps, max(1, steps // looks))
    totals = [torch.zeros(rows, dtype=torch.float64) for _ in descents]
    for first in range(0, steps, _CHUNK):
        chunk = range(first, min(first + _CHUNK, steps))
        parts = [_samples(task, fold(keys, torch.tensor(chunk)[:, None])) for task in tasks]
        tilts, factors = (torch.cat(part, dim=1).unbind() for part in zip(*parts, strict=True))
        for x, optimizer, total in zip(points, optimizers, totals, strict=True):
            for t, tilt, factor in zip(chunk, tilts, factors, strict=True):
                if t in looked_at:
                    total += torch.linalg.vector_norm(gradient(x.detach()), dim=1)
                optimizer.step(partial(_evaluate, gradient, x, tilt, factor))
    means = [(total / len(looked_at)).view(len(tasks), repeats) for total in totals]
    return dict(zip(descents, means, strict=True))


def _samples(task: Ripples, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one sample for each key [T, R]: tilts [T, R, M], and factors 1 + ε [T, R, 1]."""
    agents = torch.zeros(keys.numel(), dtype=torch.int64)
    drawn = task.draw(keys.flatten(), agents, 1, torch.float64)[1].view(*keys.shape, -1)
    return drawn[..., : task.num_outputs], 1 + drawn[..., task.num_outputs :].sum(-1, keepdim=True)


def _evaluate(gradient: Callable[[Tensor], Tensor], x: nn.Parameter, tilt: Tensor, factor: Tensor) -> None:
    """Compute the gradients of a sample."""
    x.grad = gradient(x.detach()).mul_(factor).add_(tilt)
