"""The recursion that a strategy's own step follows on quadratics, and up to which step size it is stable.

Any strategy whose step is affine in the state and the noise is probed: its step is taken from the unit vectors of the
whole state (parameters, memory, optimizer) and of the noise, which gives the matrices of its recursion. The weights may
be any, the agents' Hessians and noise may differ.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.analysis.theory.recursion import Quadratics, Recursion
from basinet.sim.block import Block
from basinet.sim.component import ExperimentError
from basinet.sim.config import KINDS, Runtime, TaskPart
from basinet.sim.placement import Placement
from basinet.sim.setup import Setup
from basinet.sim.state import StackedState
from basinet.sim.tasks import Batch

__all__ = ["probe", "probed_stability_limit"]

Array = NDArray[np.float64]

_NUMBERS = 2**24
"""Numbers in the states that are probed at a time."""

_STABLE = 1 + 1e-9
"""A spectral radius up to this counts as one, for rounding."""


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

    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Refuse: what is made of losses alone is not affine."""
        raise ExperimentError("optimizer: it evaluates losses, which theory does not follow")


class _NoData:
    """Draws nothing."""

    def batch(self, step: int, size: int | None = None) -> Batch:
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
                "start": None,
                "schedule": KINDS["schedule"].parse("constant"),
                "gradient_noise": None,
                "sampling": "independent",
                "batch_size": 1,
                "replicas": replicas,
                "runtime": Runtime(device="cpu", dtype="float64", engine="loop", threads=1),
            }
        )
        made = task.make(seed=0, num_agents=setup.num_agents)
        model = point.make(num_outputs=columns)
        nobody = np.zeros((replicas, setup.num_agents), dtype=bool)
        own = dataclasses.replace(setup, config=config, task=made, model=model, holdings=[], attackers=nobody)
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
            parameters are personal, or agents attack.

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
