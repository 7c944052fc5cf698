"""Mean gradient norms along many repetitions of a descent at once."""

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
"""Number of steps whose noise is drawn at once."""


class Descent(NamedTuple):
    """A method: an optimizer class and its settings."""

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
    """Average ‖∇J(x_t)‖ over the steps t of descents that share their random draws.

    The repetitions on all tasks are the agents of one optimizer. The norm is that of the true gradient. (The smallest
    norm would be no measure of convergence: a random walk reaches small ones by chance.)

    Args:
        tasks: The same landscape S times, with different noise distributions.
        descents: The methods by name.
        steps: Number of steps of each descent.
        start: Initial value of every coordinate.
        repeats: Number of repetitions R.
        skip: Fraction of initial steps left out of the average.
        looks: Minimum number of evenly spaced steps at which the norm is evaluated, up to all steps.
        seed: Seed of the noise.

    Returns:
        The averages of each repetition by method, [S, R].
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
    """Write the gradients for a sample into the parameter."""
    x.grad = gradient(x.detach()).mul_(factor).add_(tilt)
