"""A quadratic model of a loss around its minimum: Hessian, gradient noise and heterogeneity."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.curvature.objective import Objective, Products
from basinet.analysis.curvature.quadrature import quadratic_form
from basinet.analysis.curvature.samples import Chunk
from basinet.analysis.runs.measure_replica import CHUNK
from basinet.analysis.theory import Quadratics
from basinet.sim.data.rows import take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import Task
from basinet.sim.tasks.landscapes.landscape import Landscape

__all__ = ["DENSE_PARAMETERS", "OWN_NUMBERS", "Gradients", "LocalQuadratic", "gradients_at", "local_quadratic"]

Array = NDArray[np.float64]

DENSE_PARAMETERS = 3000
"""Number of parameters up to which the Hessian is fully diagonalised."""

OWN_NUMBERS = 800
"""Number of parameters of all agents together up to which each agent has its own Hessian."""

_DIFFERENCES = 8
"""Number of vectors on which the agents' Hessians are compared."""

_ALIKE = 1e-9
"""Relative difference below which Hessians are equal up to rounding."""

_BATCH = 512
"""Number of samples whose gradients are held at a time."""


@dataclass(frozen=True, eq=False)
class LocalQuadratic:
    """A loss around its minimum, along directions in which the Hessian is diagonal.

    Attributes:
        curvature: Eigenvalues of H, or quadrature nodes, [J].
        noise: Variance of the per-sample gradient along each direction, per agent, [K, J].
        shifts: Each agent's gradient at the minimum, [K, J].
        spread: Root mean square of ‖H_k − H‖_F / ‖H‖_F over the agents; 0 if all Hessians are equal.
        own: The agents' losses with their own Hessians and per-sample noise, in the same directions; None if all
            Hessians are equal, or if they are too large.
        probes: Number of random vectors that represent the noise, then averaged over agents; None if it is exact.
        method: How this was computed, in words.
    """

    curvature: Array
    noise: Array
    shifts: Array
    spread: float
    own: Quadratics | None
    probes: int | None
    method: str


def local_quadratic(
    model: nn.Module,
    task: Task,
    holdings: list[NDArray[Any]],
    W: Array,
    *,
    agents: int,
    seed: int = 0,
    probes: int = 24,
    products: Products = "exact",
) -> LocalQuadratic:
    """Measure Hessian, gradient noise and heterogeneity at a minimum, as far as the excess risk depends on them.

    Up to 3000 parameters, H is fully diagonalised, and each agent has its own Hessian if K P is at most 800. Larger
    models use Gauss quadrature: the noise enters as Tr φ(H) Σ = E uᵀ φ(H) u with vectors u of covariance Σ (sums of
    centred per-sample gradients with random signs, the same for all agents), the heterogeneity as b̂ᵀ ψ(H) b̂ for each
    mode of W.

    Args:
        model: The minimum, in evaluation mode and float64.
        task: Provides loss and data, on the same device.
        holdings: Indices of each agent's samples; empty for a landscape, whose noise is known.
        W: Mixing matrix [K, K]; must be symmetric for quadrature, where the shifts are measured in its modes.
        agents: K.
        seed: Seed of the random signs.
        probes: Number of vectors u.
        products: How Hessian products are computed; see `Objective`.

    Returns:
        The quadratic.

    Raises:
        ExperimentError: If the task generates samples of unknown noise, or W must be symmetric and is not.
    """
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    gradients = gradients_at(model, task, holdings, agents=agents, products=products)
    operator = HessianOperator(model, task.objective, task.train, chunk=CHUNK, products=products)
    hessians = gradients.hessians()
    spread = _spread(operator, hessians, seed)
    if size <= DENSE_PARAMETERS:
        curvature, vectors = np.linalg.eigh(operator @ np.eye(size))
        method = f"all {size} eigenvectors of the Hessian"
        noise, shifts = gradients.along(vectors)
        own = None
        if spread and agents * size <= OWN_NUMBERS:
            matrices = np.array([vectors.T @ (h @ vectors) for h in hessians])
            own = Quadratics(matrices[:, None], gradients.covariances(vectors)[:, None], shifts[:, None])
            method += ", and each agent's own Hessian"
        return LocalQuadratic(curvature, noise, shifts, spread, own, None, method)
    if abs(W - W.T).max() > 1e-8:
        raise ExperimentError(
            f"topology: its weights are not symmetric; for more than {DENSE_PARAMETERS} parameters theory covers only"
            " symmetric ones"
        )
    nodes, noises, shifts_at = [], [], []
    for gradient in gradients.draw(probes, np.random.default_rng(seed)):
        h, weights = quadratic_form(operator, gradient)
        nodes.append(h)
        noises.append(np.tile(weights / probes, (agents, 1)))
        shifts_at.append(np.zeros((agents, len(h))))
    means = gradients.means()
    for mode in np.linalg.eigh(W)[1].T:
        h, weights = quadratic_form(operator, mode @ means)
        nodes.append(h)
        noises.append(np.zeros((agents, len(h))))
        shifts_at.append(np.outer(mode, np.sqrt(weights)))
    arrays = (np.concatenate(nodes), np.concatenate(noises, axis=1), np.concatenate(shifts_at, axis=1))
    method = f"quadrature from {probes} vectors of noise and {agents} modes of W"
    return LocalQuadratic(*arrays, spread, None, probes, method)


def _spread(hessian: HessianOperator, own: Sequence[HessianOperator], seed: int) -> float:
    """Estimate the root mean square of ‖H_k − H‖_F / ‖H‖_F over the agents; 0 if it is rounding."""
    signs = np.random.default_rng([seed, 1]).choice([-1.0, 1.0], size=(hessian.shape[0], _DIFFERENCES))
    common = hessian @ signs
    squares = [np.linalg.norm(h @ signs - common) ** 2 for h in own]
    found = float(np.sqrt(np.mean(squares or 0.0))), float(np.linalg.norm(common))
    return found[0] / found[1] if found[0] > _ALIKE * found[1] else 0.0


def gradients_at(
    model: nn.Module, task: Task, holdings: list[NDArray[Any]], *, agents: int, products: Products = "exact"
) -> "Gradients":
    """Return the distribution of each agent's per-sample gradients.

    Args:
        model: The point, a minimum for a landscape.
        task: See `local_quadratic`, as the others.
        holdings: Indices of each agent's samples.
        agents: K.
        products: How Hessian products are computed.

    Returns:
        The distribution.

    Raises:
        ExperimentError: If the task generates samples of unknown noise.
    """
    if isinstance(task, Landscape):
        return _Known(task, agents)
    if holdings:
        return _Sampled(model, task, holdings, products)
    raise ExperimentError("task: it generates its samples, but theory needs to know the noise of their gradients")


class Gradients(ABC):
    """The distribution of each agent's per-sample gradients at a point."""

    @abstractmethod
    def along(self, vectors: Array) -> tuple[Array, Array]:
        """Return variance and mean along vectors [P, J] for each agent, [K, J] each."""

    @abstractmethod
    def covariances(self, vectors: Array) -> Array:
        """Return each agent's noise covariance in the coordinates along vectors [P, J], [K, J, J]."""

    @abstractmethod
    def hessians(self) -> Sequence[HessianOperator]:
        """Return each agent's own Hessian; empty if all share that of the whole loss."""

    @abstractmethod
    def means(self) -> Array:
        """Return each agent's mean gradient, [K, P]."""

    @abstractmethod
    def variances(self) -> Array:
        """Return the variance of each agent's gradients, summed over parameters, [K]."""

    @abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Return random vectors whose covariance is the agents' mean noise covariance, [count, P]."""


class _Known(Gradients):
    def __init__(self, task: Landscape, agents: int) -> None:
        self.covariance = task.noise_covariance.double().cpu().numpy()
        self.shifts = task.shifts.double().cpu().numpy()
        self.agents = agents

    def along(self, vectors: Array) -> tuple[Array, Array]:
        variance = np.einsum("pj,pq,qj->j", vectors, self.covariance, vectors)
        return np.tile(variance, (self.agents, 1)), self.shifts @ vectors

    def covariances(self, vectors: Array) -> Array:
        return np.tile(vectors.T @ self.covariance @ vectors, (self.agents, 1, 1))

    def hessians(self) -> Sequence[HessianOperator]:
        return []

    def means(self) -> Array:
        return self.shifts

    def variances(self) -> Array:
        return np.full(self.agents, np.trace(self.covariance))

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        return rng.multivariate_normal(np.zeros(len(self.covariance)), self.covariance, size=count)


class _Sampled(Gradients):
    def __init__(self, model: nn.Module, task: Task, holdings: list[NDArray[Any]], products: Products) -> None:
        self.model, self.task, self.holdings, self.products = model, task, holdings, products
        self.objective = Objective(model, task.objective, task.train)
        self.point = self.objective.point[0]
        self.buffers = {name: b[0] for name, b in self.objective.buffers(1).items()}

    def _of(self, samples: NDArray[Any]) -> Array:
        """Compute the gradients of some samples, [n, P]."""
        places = torch.from_numpy(samples).to(self.point.device)
        chunk = Chunk(take(self.task.train, places))
        array: Array = self.objective.sample_gradients(self.point, self.buffers, chunk).double().cpu().numpy()
        return array

    def along(self, vectors: Array) -> tuple[Array, Array]:
        sums, squares = np.zeros((2, len(self.holdings), vectors.shape[1]))
        for agent, held in enumerate(self.holdings):
            for start in range(0, len(held), _BATCH):
                projected = self._of(held[start : start + _BATCH]) @ vectors
                sums[agent] += projected.sum(axis=0) / len(held)
                squares[agent] += (projected**2).sum(axis=0) / len(held)
        return np.maximum(squares - sums**2, 0), sums

    def covariances(self, vectors: Array) -> Array:
        found, means = np.zeros((len(self.holdings), vectors.shape[1], vectors.shape[1])), self.means() @ vectors
        for agent, held in enumerate(self.holdings):
            for start in range(0, len(held), _BATCH):
                centred = self._of(held[start : start + _BATCH]) @ vectors - means[agent]
                found[agent] += centred.T @ centred / len(held)
        return found

    def hessians(self) -> Sequence[HessianOperator]:
        def own(held: NDArray[Any]) -> HessianOperator:
            data = take(self.task.train, torch.from_numpy(held).to(self.point.device))
            return HessianOperator(self.model, self.task.objective, data, chunk=CHUNK, products=self.products)

        return [own(held) for held in self.holdings]

    def means(self) -> Array:
        return np.stack([
            sum(self._of(held[start : start + _BATCH]).sum(axis=0) for start in range(0, len(held), _BATCH)) / len(held)
            for held in self.holdings
        ])  # fmt: skip

    def variances(self) -> Array:
        return np.stack([
            sum(((self._of(held[start : start + _BATCH]) - mean) ** 2).sum() for start in range(0, len(held), _BATCH))
            / len(held)
            for held, mean in zip(self.holdings, self.means(), strict=True)
        ])  # fmt: skip

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        probes = np.zeros((count, len(self.point)))
        means = self.means()
        for agent, held in enumerate(self.holdings):
            share = 1 / np.sqrt(len(held) * len(self.holdings))
            for start in range(0, len(held), _BATCH):
                centred = self._of(held[start : start + _BATCH]) - means[agent]
                probes += share * rng.choice([-1.0, 1.0], size=(count, len(centred))) @ centred
        return probes
