"""The tail index of stochastic gradients, by Hill's estimator."""

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.algorithms.draws import fold, key, permutation
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.measures.measure import Needs, PointMeasure
from basinet.analysis.measures.measured import Points
from basinet.sim.data.rows import length, take
from basinet.sim.run.records import Row
from basinet.sim.tasks import Batch, Task

__all__ = ["GradientTail", "TailIndex", "gradient_noise_norms", "hill"]


class TailIndex(NamedTuple):
    """An estimate of the tail index α, with P(X > x) ~ x^−α.

    Attributes:
        value: The estimate.
        error: Its standard error, α / √k.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        largest: k, the number of largest values used.
    """

    value: float
    error: float
    low: float
    high: float
    largest: int


def hill(magnitudes: Tensor, *, fraction: float = 0.05) -> TailIndex:
    r"""Estimate the tail index of positive numbers.

    $$
    1 / \hat α = \frac{1}{k} \sum_{i=1}^k \log X_{(i)} - \log X_{(k+1)}, \qquad X_{(1)} ≥ X_{(2)} ≥ …
    $$

    If the tail is exactly a power law, 2kα / α̂ is χ² distributed with 2k degrees of freedom, which gives the interval.
    Otherwise the estimate has a bias that the interval does not include; for light tails it is some large index.

    Args:
        magnitudes: Independent values, [n]; zeros are the smallest.
        fraction: The fraction k / n of the values that counts as the tail.

    Returns:
        The estimate; infinite if the largest values are all equal.

    Raises:
        ValueError: If there are too few positive values, or some are not finite.

    Example:
        >>> hill(torch.arange(1, 2001) ** -0.5).value  # the quantiles of a tail index of 2
        2.0...

    References:
        Hill: A simple general approach to inference about the tail of a distribution, Ann. Statist. 3, 1975,
        doi:10.1214/aos/1176343247.
    """
    endless = int((~magnitudes.isfinite()).sum())
    if endless:
        raise ValueError(
            f"the tail index needs finite values; {endless} of {len(magnitudes)} are infinite or not a number"
        )
    largest = max(2, math.ceil(fraction * len(magnitudes)))
    if len(magnitudes) <= largest or not magnitudes.topk(largest + 1).values[-1] > 0:
        raise ValueError(f"the tail index needs more than {largest} positive values, of {len(magnitudes)} here")
    logs = magnitudes.double().topk(largest + 1).values.log()
    inverse = float((logs[:-1] - logs[-1]).mean())
    if inverse == 0:
        return TailIndex(math.inf, math.inf, math.inf, math.inf, largest)
    from scipy.special import gammaincinv  # slow to import

    low, high = (float(gammaincinv(largest, q)) / (largest * inverse) for q in (0.025, 0.975))
    return TailIndex(1 / inverse, 1 / (inverse * math.sqrt(largest)), low, high, largest)


def gradient_noise_norms(
    model: nn.Module, task: Task, *, samples: int = 2000, seed: int = 0, memory: int = 2**30
) -> Tensor:
    """Compute the norms ‖g_i − mean g‖ of the noise of per-sample gradients g_i.

    Args:
        model: The point, in the mode and floating type of the measurement.
        task: Provides the loss and the samples: training data, or fresh samples of agent 0 if the task generates them.
        samples: Number of samples, at most that of the training data.
        seed: Seed of the choice of samples.
        memory: Bytes available for the gradients; if they need more, they are computed twice instead of kept.

    Returns:
        The norms [n], float64.

    Raises:
        ValueError: If the loss is that of whole batches.
    """
    if task.mean_over == "batch":
        raise ValueError("The loss is that of whole batches, so single samples have no gradient.")
    objective = Objective(model, task.objective, task.train, training=model.training)
    point, buffers = objective.point[0], {name: b[0] for name, b in objective.buffers(1).items()}
    batches = _single_samples(task, samples, seed, point)

    def gradients() -> Iterator[Tensor]:
        return (objective.gradient(point, buffers, batch) for batch in batches)

    fits = len(batches) * point.nbytes <= memory
    kept = list(gradients()) if fits else None
    mean = torch.zeros_like(point, dtype=torch.float64)
    for gradient in kept or gradients():
        mean += gradient
    mean /= len(batches)
    return torch.stack([torch.linalg.vector_norm(gradient - mean) for gradient in kept or gradients()])


def _single_samples(task: Task, samples: int, seed: int, like: Tensor) -> list[Batch]:
    device = like.device
    root = torch.tensor([key(seed, "tail index")], device=device)
    if task.draw is not None:
        keys = fold(root, torch.arange(samples, device=device))
        drawn = task.draw(keys, torch.zeros_like(keys), 1, like.dtype)
        return [take(drawn, n) for n in range(samples)]
    held = length(task.train)
    order = permutation(root, torch.tensor([held], device=device), held)[0]
    counts = task.counts(task.train)
    if counts is not None:
        order = order[counts[order] > 0]
    order = order[:samples]
    return [take(task.train, place) for place in torch.split(order, 1)]


class GradientTail(PointMeasure):
    """Tail index of the per-sample gradient noise norm, by Hill's estimator.

    With the norms X = ‖g_i − ḡ‖ of n samples in descending order: ``1 / α = (1/k) Σ_{i≤k} log X_i − log X_{k+1}``.

    Args:
        samples: Number of samples, at most that of the training data.
        fraction: The fraction k / n of the norms that counts as the tail.

    References:
        Hill: A simple general approach to inference about the tail of a distribution, Ann. Statist. 3, 1975,
        doi:10.1214/aos/1176343247.
    """

    name = "tail_index"
    label = "tail index of the gradient noise (smaller is heavier)"
    heading = "tail index"
    needs = Needs(whole=True, mode=False)
    trial: ClassVar = {"samples": 3, "fraction": 0.05}

    def __init__(
        self,
        samples: Annotated[int, Field(ge=3, le=10**9)] = 2000,
        fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05,
    ) -> None:
        self.samples, self.fraction = samples, fraction

    def at(self, points: Points) -> list[Row]:
        """See `PointMeasure`."""
        found: list[Row] = []
        for model in points.models():
            norms = gradient_noise_norms(
                model, points.task, samples=self.samples, seed=points.seed, memory=points.memory
            )
            tail = hill(norms, fraction=self.fraction)
            # Infinite if the largest values are all equal, which JSON cannot represent.
            known = math.isfinite(tail.value)
            found.append({"tail_index": tail.value, "tail_index_error": tail.error} if known else {})
        return found
