"""Quadratic minima in general: the recursion that a strategy's own step follows, its steady state and its stability.

Any strategy whose step is affine in the state and the noise is probed: its step is taken from the unit vectors of the
whole state (parameters, memory, optimizer) and of the noise, which gives the matrices of its recursion. The weights may
be any, the agents' Hessians and noise may differ.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from basinet.analysis.theory.parts import RiskParts
from basinet.sim.block import Block
from basinet.sim.component import ExperimentError
from basinet.sim.config import KINDS, Runtime, TaskPart
from basinet.sim.placement import Placement
from basinet.sim.setup import Setup
from basinet.sim.state import StackedState
from basinet.sim.tasks import Batch

__all__ = ["Quadratics", "Recursion", "probe", "probed_stability_limit"]

Array = NDArray[np.float64]

_NUMBERS = 2**24
"""Numbers in the states that are probed at a time."""

_DOUBLINGS = 50
"""2^50 steps are for ever."""

_SETTLED = 1e-10
"""A steady state is reached when as many steps again change it by no more than this part: the rest is its square."""

_STABLE = 1 + 1e-9
"""A spectral radius up to this counts as one, for rounding."""


@dataclass(frozen=True, eq=False)
class Quadratics:
    """Agent k has J_k(w) = ½ wᵀ H_k w + b_kᵀ w and the noise covariance R_k, in B independent blocks of m coordinates.

    Attributes:
        hessians: H_k, [K, B, m, m].
        noise: R_k, [K, B, m, m].
        shifts: b_k, [K, B, m].
    """

    hessians: Array
    noise: Array
    shifts: Array

    @classmethod
    def of(cls, hessian: ArrayLike, noise: ArrayLike, shifts: ArrayLike | None = None, *, agents: int) -> "Quadratics":
        """Read the agents' losses; what all agents share is taken apart into its eigenvectors.

        Args:
            hessian: [M], the eigenvalues of a Hessian that all share, whose eigenvectors are the coordinates; [M, M],
                that Hessian; or [K, M, M], one for each agent.
            noise: Covariance of the gradient. With eigenvalues given, the variances along the eigenvectors, [M], or
                agent by agent, [K, M]; else [M, M] or [K, M, M].
            shifts: b_k, [K, M]; None for 0.
            agents: K.

        Returns:
            The losses.

        Raises:
            ValueError: Shapes do not go together.
        """
        h, r = np.asarray(hessian, dtype=float), np.asarray(noise, dtype=float)
        size = h.shape[-1]
        b = np.zeros((agents, size)) if shifts is None else np.asarray(shifts, dtype=float)
        wanted = {1: [(size,), (agents, size)], 2: [(size,) * 2, (agents, size, size)]}.get(min(h.ndim, 2), [])
        if h.shape not in ((size,), (size, size), (agents, size, size)) or r.shape not in wanted:
            raise ValueError(
                f"hessian {h.shape} and noise {r.shape} of {agents} agents do not go together; allowed are [M] with [M]"
                " or [K, M], and [M, M] or [K, M, M] with either of these"
            )
        if b.shape != (agents, size):
            raise ValueError(f"shifts {b.shape} are not [K, M] = {(agents, size)}")
        if h.ndim == 3:
            noises = np.broadcast_to(r, (agents, size, size))
            return cls(h[:, None], noises[:, None], b[:, None])
        if h.ndim == 2:
            h, vectors = np.linalg.eigh(h)
            b = b @ vectors
            # Of the noise, only the variances along the eigenvectors act on any second moment that is asked for.
            r = np.einsum("...ij,ib,jb->...b", r, vectors, vectors)
        every = np.broadcast_to(h, (agents, size))[..., None, None]
        return cls(every, np.broadcast_to(r, (agents, size))[..., None, None], b[..., None])

    def blocks(self, which: slice) -> "Quadratics":
        """Take some of the independent blocks."""
        return Quadratics(self.hessians[:, which], self.noise[:, which], self.shifts[:, which])


@dataclass(frozen=True, eq=False)
class Recursion:
    """s ← F s + c + ζ with ζ of covariance Q, over a period of steps, in B independent blocks.

    Attributes:
        F: [B, S, S]; the parameters of the K agents come first in the state, agent by agent.
        Q: [B, S, S].
        c: [B, S].
        steps: Steps in a period.
        quadratics: The agents' losses.
        centroid_weights: π, [K].
    """

    F: Array
    Q: Array
    c: Array
    steps: int
    quadratics: Quadratics
    centroid_weights: Array

    def after(self, periods: int) -> tuple[Array, Array]:
        """Compute mean and covariance of the state after so many periods from the minimum.

        Args:
            periods: How many.

        Returns:
            [B, S] and [B, S, S].
        """
        mean, covariance = np.zeros_like(self.c), np.zeros_like(self.Q)
        power = self
        while periods:
            if periods % 2:
                mean, covariance = power._follow(mean, covariance)
            power = power._twice()
            periods //= 2
        return mean, covariance

    def settled(self) -> tuple[Array, Array]:
        """Compute mean and covariance of the state in the long run; modes that nothing excites do no harm.

        Returns:
            [B, S] and [B, S, S].

        Raises:
            ValueError: There is no steady state.
        """
        power = self
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(_DOUBLINGS):
                following = power._twice()
                if not np.isfinite(following.Q).all():
                    break
                if power._agrees(following):
                    return following.c, following.Q
                power = following
        raise ValueError("there is no steady state: the step size is too large, or a direction has no curvature")

    def excess_risk(self, moments: tuple[Array, Array]) -> RiskParts:
        """Compute the excess risk of the agents' mean loss Σ_k π_k J_k at its minimum.

        Args:
            moments: Mean and covariance of the state.

        Returns:
            Its parts.
        """
        K, B, m = self.quadratics.shifts.shape
        pi = self.centroid_weights
        hessian = np.einsum("k,kbij->bij", pi, self.quadratics.hessians)
        mean = moments[0][:, : K * m].reshape(B, K, m)
        covariance = moments[1][:, : K * m, : K * m].reshape(B, K, m, K, m)
        second = np.einsum("bki,blj->bkilj", mean, mean)
        parts = []
        for moment in (second, covariance):
            every = 0.5 * np.einsum("k,bkikj,bij->", pi, moment, hessian, optimize=True)
            centroid = 0.5 * np.einsum("k,l,bkilj,bij->", pi, pi, moment, hessian, optimize=True)
            parts.append((float(centroid), float(every - centroid)))
        (centroid_bias, disagreement_bias), (centroid_noise, disagreement_noise) = parts
        return RiskParts(centroid_bias, centroid_noise, disagreement_bias, disagreement_noise)

    def radii(self) -> Array:
        """Compute the spectral radius of each block on what shifts and noise can reach.

        Copies of one model that start equal, for example, stay so: their differences are not reached.

        Returns:
            [B]; stable below 1.
        """
        found = []
        for F, Q, c in zip(self.F, self.Q, self.c, strict=True):
            basis = _reachable(F, Q + np.outer(c, c))
            reached = basis.T @ F @ basis
            found.append(np.abs(np.linalg.eigvals(reached)).max() if reached.size else 0.0)
        return np.asarray(found)

    def _follow(self, mean: Array, covariance: Array) -> tuple[Array, Array]:
        """Return the moments one period later."""
        later = np.einsum("bij,bj->bi", self.F, mean) + self.c
        return later, self.F @ covariance @ self.F.swapaxes(1, 2) + self.Q

    def _agrees(self, other: "Recursion") -> bool:
        """Tell whether two recursions give the parameters the same moments, as far as can be told."""
        size = self.quadratics.shifts[:, 0].size
        variance = np.diagonal(other.Q, axis1=1, axis2=2)[:, :size].max(axis=1, keepdims=True)
        length = np.maximum(np.abs(other.c[:, :size]).max(axis=1, keepdims=True), np.sqrt(variance))
        settled = np.abs(other.Q - self.Q)[:, :size, :size] <= _SETTLED * variance[..., None]
        return bool(settled.all() and (np.abs(other.c - self.c)[:, :size] <= _SETTLED * length).all())

    def _twice(self) -> "Recursion":
        """Return the recursion of two periods."""
        c, Q = self._follow(self.c, self.Q)
        return dataclasses.replace(self, F=self.F @ self.F, Q=Q, c=c, steps=2 * self.steps)


def _reachable(F: Array, excited: Array) -> Array:
    """Return an orthonormal basis of the smallest space that F keeps and that holds the range of a matrix, [S, D]."""
    basis = np.zeros((len(F), 0))
    new = excited
    while new.size:
        new = new - basis @ (basis.T @ new)
        left, sizes, _ = np.linalg.svd(new, full_matrices=False)
        scale = sizes.max() if basis.shape[1] == 0 else 1.0
        fresh = left[:, sizes > 1e-9 * scale]
        if basis.shape[1] + fresh.shape[1] > len(F):
            fresh = fresh[:, : len(F) - basis.shape[1]]
        basis = np.linalg.qr(np.concatenate([basis, fresh], axis=1))[0]
        new = F @ fresh
        norm = np.linalg.norm(new)
        new = new / norm if norm > 0 else new[:, :0]
    return basis


class _LinearEngine:
    """Gives each agent the gradient of its quadratic, H_k x_k + b_k + ξ, with ξ as it is told."""

    name = "linear"
    needs_keys = False
    grain = 0

    def __init__(self, state: StackedState, quadratics: Quadratics) -> None:
        self.state = state
        self.hessians, self.shifts = (torch.tensor(a) for a in (quadratics.hessians, quadratics.shifts))
        self.noise: list[Tensor] | None = None

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state."""
        x = self.state.parameters
        found = torch.einsum("kbij,rkbj->rkbi", self.hessians, x.view(-1, *self.shifts.shape)) + self.shifts
        if self.noise is not None:
            if not self.noise:
                raise ExperimentError("strategy: it takes several gradients in a step, which theory does not follow")
            found += self.noise.pop(0)
        self.state.gradients.copy_(found.reshape(x.shape))
        return x.new_zeros(len(x))


class _NoData:
    """Draws nothing."""

    def batch(self, step: int) -> Batch:
        """Draw no batch."""
        return ()

    def sweep(self) -> Iterator[tuple[Batch, Tensor]]:
        """Refuse: a gradient over all data has no noise."""
        raise ExperimentError("strategy: it takes gradients over all of an agent's data, which theory does not follow")


class _Probe:
    """Replicas of a run on quadratics, whose whole state can be read and written."""

    def __init__(self, setup: Setup, quadratics: Quadratics, replicas: int) -> None:
        self.replicas = replicas
        self.shape = quadratics.shifts.shape
        columns = math.prod(self.shape[1:])
        point = KINDS["model"].parse("point")
        task = KINDS["task"].parse({"name": "quadratic", "dimension": columns, "curvature": 1.0})
        config = setup.config.model_copy(
            update={
                "task": TaskPart(component=task),
                "model": point,
                "schedule": KINDS["schedule"].parse("constant"),
                "sampling": "independent",
                "batch_size": 1,
                "replicas": replicas,
                "runtime": Runtime(device="cpu", dtype="float64", engine="loop", threads=1),
            }
        )
        made = task.make(seed=0, num_agents=setup.num_agents)
        model = point.make(num_outputs=columns)
        own = dataclasses.replace(setup, config=config, task=made, model=model, holdings=[])
        self.block = Block(own, Placement.split(replicas, setup.num_agents), torch.device("cpu"), "loop")
        self.engine = _LinearEngine(self.block.state, quadratics)
        self.block.engine = self.engine
        self.block.sampler = _NoData()

    def parts(self) -> list[Tensor]:
        """Collect what the next step depends on."""
        block = self.block
        found = [block.x, *(block.memory[name] for name in sorted(block.memory)), *block.optimizer.rows()]
        if any(part.shape != block.x.shape for part in found):
            raise ExperimentError("strategy: it remembers more than vectors like the parameters: theory cannot follow")
        return found

    def read(self) -> Array:
        """Return the state, [B, R, S]."""
        K, B, m = self.shape
        parts = [part.view(self.replicas, K, B, m).permute(2, 0, 1, 3).flatten(2) for part in self.parts()]
        return np.asarray(torch.cat(parts, dim=2).numpy())

    def write(self, states: Array) -> None:
        """Set the state, [R, S] the same in every block."""
        K, B, m = self.shape
        parts = self.parts()
        for part, values in zip(parts, np.split(states, len(parts), axis=1), strict=True):
            every = torch.tensor(values).view(self.replicas, K, 1, m).expand(-1, -1, B, -1)
            part.copy_(every.reshape(part.shape))

    def advance(self, steps: int, noise: list[Tensor] | None = None) -> None:
        """Take steps, with noise [R, K, B, m] in the gradients of each."""
        self.engine.noise = noise
        self.block.advance(self.block.step + steps)


def probe(setup: Setup, quadratics: Quadratics) -> Recursion:
    """Find the recursion that the step of a run follows on quadratics.

    Strategy, weights, optimizer and learning rate are the run's; the schedule is taken as constant.

    Args:
        setup: The parts of a run; its task, model and data play no part.
        quadratics: The agents' losses.

    Returns:
        The recursion, over the period of the strategy and of its sequence of graphs.

    Raises:
        ExperimentError: The step is not affine: the strategy compresses, say, or the optimizer normalises; or some
            parameters are personal.

    Example:
        >>> from basinet.sim.config import Config
        >>> parts = {"task": "quadratic", "topology": {"name": "ring", "agents": 3}, "strategy": "diffusion"}
        >>> setup = Setup.build(Config.parse({**parts, "optimizer": {"name": "sgd", "lr": 0.1}}))
        >>> recursion = probe(setup, Quadratics.of([1.0], [3.0], agents=3))
        >>> round(recursion.excess_risk(recursion.settled()).centroid, 6)
        0.026316
    """
    if setup.config.personal:
        raise ExperimentError(
            "personal: parameters that are not mixed have a minimum at each agent, not one that theory knows"
        )
    K, B, m = quadratics.shifts.shape
    steps = math.lcm(len(setup.sequence), int(getattr(setup.strategy(), "period", 1)))
    first = _Probe(setup, quadratics.blocks(slice(0, 1)), 1)
    first.advance(steps)
    size = first.read().shape[2]
    replicas = size + steps * K * m + 2
    chunk = max(1, _NUMBERS // (replicas * size))
    parts = [
        _probe_blocks(setup, quadratics.blocks(slice(start, start + chunk)), steps, size, replicas)
        for start in range(0, B, chunk)
    ]
    F, Q, c = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Recursion(F, Q, c, steps, quadratics, setup.centroid_weights)


def _probe_blocks(
    setup: Setup, quadratics: Quadratics, steps: int, size: int, replicas: int
) -> tuple[Array, Array, Array]:
    """Return F, Q, c of some blocks."""
    K, B, m = quadratics.shifts.shape
    probe = _Probe(setup, quadratics, replicas)
    probe.advance(steps)  # memory is there from the first step on
    # A unit vector a replica, first of the state, then of the noise; one replica of zeros; one of random numbers.
    states, noise = np.zeros((replicas, size)), np.zeros((replicas, steps, K, m))
    states[:size] = np.eye(size)
    noise[size:-2] = np.eye(steps * K * m).reshape(-1, steps, K, m)
    rng = np.random.default_rng(0)
    states[-1], noise[-1] = rng.standard_normal(size), rng.standard_normal((steps, K, m))
    probe.write(states)
    every = torch.tensor(noise)[:, :, :, None].expand(-1, -1, -1, B, -1)
    probe.advance(steps, [every[:, step] for step in range(steps)])
    after = probe.read()
    c = after[:, -2]
    F, G = ((after[:, rows] - c[:, None]).swapaxes(1, 2) for rows in (slice(0, size), slice(size, -2)))
    expected = F @ states[-1] + G @ noise[-1].ravel() + c
    scale = np.abs(F).max() + np.abs(G).max() + np.abs(c).max()
    if not np.abs(after[:, -1] - expected).max() <= 1e-9 * size * scale:
        names = f"{setup.config.strategy.name} with {setup.config.optimizer.name}"
        raise ExperimentError(f"strategy: a step of {names} is not affine in state and noise: theory cannot follow it")
    G = G.reshape(B, size, steps, K, m)
    Q = np.einsum("bstki,kbij,butkj->bsu", G, quadratics.noise, G, optimize=True)
    return F, Q, c


def probed_stability_limit(setup: Setup, top_eigenvalue: float) -> float:
    """Find the step size from which a minimum is left for its curvature alone, from the strategy's own step.

    Args:
        setup: The parts of a run.
        top_eigenvalue: Largest eigenvalue of the Hessian, which all agents share.

    Returns:
        The step size, to about 1e-4 of it; for an optimizer with momentum, its `lr`.

    Raises:
        ExperimentError: The step is not affine.
        ValueError: No step size up to 4 / `top_eigenvalue` is too large.
    """
    low, high = 0.0, 4.0
    for points in (401, 201):
        products = np.linspace(low, high, points)[1:]
        unstable = np.flatnonzero(_radii(setup, products) > _STABLE)
        if not len(unstable):
            raise ValueError(f"{setup.config.strategy.name} is stable up to the step size {high / top_eigenvalue:g}")
        high = products[unstable[0]]
        low = high - (products[1] - products[0])
    return float((low + high) / 2 / top_eigenvalue)


def _radii(setup: Setup, products: Array) -> Array:
    """Return the spectral radius for each product of step size and curvature."""
    K = setup.num_agents
    lr = setup.config.optimizer.describe()["lr"]
    shifts = np.random.default_rng(0).standard_normal((K, 1)) * np.ones_like(products)
    quadratics = Quadratics.of(products / lr, np.ones_like(products), shifts - shifts.mean(axis=0), agents=K)
    return probe(setup, quadratics).radii()
