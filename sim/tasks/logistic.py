"""Synthetic logistic regression: convex, with a minimum and a Hessian known to machine precision."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.algorithms.draws import key, normal, uniform
from basinet.sim.setup.memory import require_memory
from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.tasks.task import TASKS, Batch, Task


@dataclass(frozen=True, kw_only=True)
class Logistic(Task):
    """Two classes from one logit z = wᵀx: the loss of a sample is log(1 + eᶻ) − y z.

    Attributes:
        minimum: The weights w* that minimise the mean training loss, [M].
    """

    minimum: Tensor
    model: str = "linear"

    loss_words: ClassVar[str] = "cross-entropy of one logit, since the targets are two classes"

    @property
    def hessian(self) -> Tensor:
        """Hessian of the training loss at the minimum, mean of p(1 − p) x xᵀ, [M, M]."""
        p = (self.train[0] @ self.minimum).sigmoid()
        return _weighted_covariance(self.train[0], p * (1 - p))

    @property
    def noise_covariance(self) -> Tensor:
        """Covariance of the gradient of one sample at the minimum, mean of (p − y)² x xᵀ, [M, M]."""
        p = (self.train[0] @ self.minimum).sigmoid()
        return _weighted_covariance(self.train[0], (p - self.train[1]).square())

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the loss of each sample, the cross-entropy of one logit.

        Args:
            outputs: Logits, [B, ..., 1].
            batch: Its targets are classes 0 or 1, [B, ...].

        Returns:
            Tensor [B, ...], not reduced.
        """
        targets = self.targets(batch)
        logits = fit(output_of(outputs), targets.shape, "the model returns logits")
        return nn.functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")

    def predict(self, outputs: Any) -> Tensor:
        """Choose class 1 where the logit is positive.

        Args:
            outputs: Logits, [B, ..., 1].

        Returns:
            Class indices, int64 [B, ..., 1].
        """
        return (output_of(outputs) > 0).long()

    def constant_outputs(self, frequencies: Tensor) -> Tensor:
        """Choose the constant logit of the smallest loss.

        Args:
            frequencies: Of the two classes in the training data, [2].

        Returns:
            Their log odds, [1].
        """
        return frequencies.log().diff()


@TASKS.register()
def logistic(
    *,
    samples: Annotated[int, Field(ge=2, le=10**9)] = 1000,
    dimension: Annotated[int, Field(ge=1, le=10**7)] = 10,
    signal: Annotated[float, Field(ge=0)] = 2.0,
    test_samples: Annotated[int, Field(ge=1, le=10**9)] = 1000,
    seed: int = 0,
) -> Logistic:
    """Draw a binary logistic regression without regulariser or intercept.

    Inputs are x ~ N(0, I), labels y ~ Bernoulli(σ(vᵀx)) with a random vector v of length `signal`. The labels are
    drawn from the model, so the classes overlap, and the minimum w* of the training loss is finite (but not v).

    Args:
        samples: Training samples n.
        dimension: Number of weights M.
        signal: Standard deviation of the true logit vᵀx; at 0 the labels are fair coins.
        test_samples: Test samples.
        seed: Seed of the data; the simulator supplies it.

    Returns:
        A task with the attributes `minimum`, `hessian` and `noise_covariance`, in float64.

    Raises:
        ValueError: If a hyperplane separates the classes, so that there is no finite minimum.

    Example:
        >>> task = logistic(samples=200, dimension=3)
        >>> task.hessian.shape, task.labels.unique().tolist()
        (torch.Size([3, 3]), [0, 1])
    """
    # The inputs, the weighted inputs in Newton's method, and its matrix.
    require_memory(8 * ((2 * samples + test_samples) * dimension + dimension**2), "logistic: the samples")
    root = key(seed, "logistic")
    v = normal(torch.tensor(key(root, "weights")), (dimension,))
    v *= signal / v.norm()
    train, test = (_draw(key(root, split), size, v) for split, size in (("train", samples), ("test", test_samples)))
    minimum = _newton(*train)
    if minimum is None:
        raise ValueError(
            f"logistic: the classes of {samples} samples in {dimension} dimensions are separable, so the loss"
            " has no finite minimum; give more samples, fewer dimensions or a weaker signal"
        )
    return Logistic(train=train, test=test, num_outputs=1, minimum=minimum)


def _draw(root: int, samples: int, v: Tensor) -> Batch:
    x = normal(torch.tensor(key(root, "inputs")), (samples, len(v)))
    y = uniform(torch.tensor(key(root, "labels")), (samples,)) < (x @ v).sigmoid()
    return x, y.long()


def _newton(x: Tensor, y: Tensor) -> Tensor | None:
    """Return the point where the gradient is below 1e-12, or None if 20 steps do not reach it.

    For separable classes, the logits grow by about one per step, so that 20 steps end far from where the gradient
    vanishes by rounding.
    """
    w = x.new_zeros(x.shape[1])
    for _ in range(20):
        p = (x @ w).sigmoid()
        gradient = x.T @ (p - y) / len(y)
        if gradient.norm() < 1e-12:
            return w
        w = w - torch.linalg.solve_ex(_weighted_covariance(x, p * (1 - p)), gradient).result
    return None


def _weighted_covariance(x: Tensor, weight: Tensor) -> Tensor:
    return (x.T * weight) @ x / len(x)
