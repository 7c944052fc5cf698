"""The affine recursion of a strategy's own step on quadratics, and the step size up to which it is stable.

Works for any strategy whose step is affine in state and noise: taking the step from the unit vectors of the whole state
(parameters, memory, optimizer) and of the noise gives the matrices of its recursion. The weights are arbitrary, and the
agents' Hessians and noise may differ.
"""

import dataclasses
import math
from collections.abc import Iterator
from functools import reduce
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms.strategies import EventDriven
from basinet.analysis.theory.parts import RiskParts
from basinet.analysis.theory.recursion import Quadratics, Recursion
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import KINDS, RuntimePart, TaskPart
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Batch

__all__ = ["probe", "probed_excess_risk", "probed_stability_limit"]

Array = NDArray[np.float64]

_NUMBERS = 2**24
"""Size of the states that are probed at a time."""

_SIZES = (1.0, 1000.0)
"""Sizes of the random states and noise on which a step is checked to be affine."""

_STABLE = 1 + 1e-9
"""Spectral radius up to which a recursion counts as stable, allowing for rounding."""


class _LinearEngine:
    """Engine that returns the gradient of each agent's quadratic, H_k x_k + b_k + ξ, with prescribed ξ."""

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
                raise ExperimentError("strategy: it takes several gradients in a step, which theory does not cover")
            found += self.noise.pop(0)
        self.state.gradients.copy_(found.reshape(x.shape))
        return x.new_zeros(len(x))

    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Raise: steps based on losses are not affine."""
        raise ExperimentError("optimizer: it evaluates losses, which theory does not cover")


class _NoData:
    """Draws nothing."""

    def batch(self, step: int, size: int | None = None) -> Batch:
        """Return an empty batch."""
        return ()

    def some(self, rows: np.ndarray, steps: np.ndarray) -> Batch:
        """Return an empty batch."""
        return ()

    def sweep(self) -> Iterator[tuple[Batch, Tensor]]:
        """Raise: a gradient over all data has no noise."""
        raise ExperimentError("strategy: it takes gradients over all of an agent's data, which theory does not cover")

    def close(self) -> None:
        """Do nothing, since nothing is read."""


def _no_layers(x: Tensor) -> list[Tensor]:
    """Raise: the coordinates are along eigenvectors of a Hessian and form no layers."""
    raise ExperimentError("strategy: it handles layers one by one, which theory does not cover")


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
                "escape": None,
                "gradient_noise": None,
                "sampling": "independent",
                "batch_size": 1,
                "replicas": replicas,
                "runtime": RuntimePart(device="cpu", dtype="float64", engine="loop", threads=1),
            }
        )
        if isinstance(setup.strategy(), EventDriven):
            raise ExperimentError("strategy: its agents act at events of their own, which theory does not cover")
        made = task.make(seed=0, num_agents=setup.num_agents)
        model = point.make(num_outputs=columns)
        nobody = np.zeros((replicas, setup.num_agents), dtype=bool)
        own = dataclasses.replace(setup, config=config, task=made, model=model, holdings=[], attackers=nobody)
        self.block = Block(own, Placement.split(replicas, setup.num_agents), torch.device("cpu"), "loop")
        self.engine = _LinearEngine(self.block.state, quadratics)
        self.block.oracle.engine = self.engine
        self.block.oracle.sampler = _NoData()
        if any(p.ndim > 1 for p in setup.template().parameters()):
            self.block.layers = _no_layers  # type: ignore[method-assign]

    def parts(self) -> list[Tensor]:
        """Collect all state that the next step depends on."""
        block = self.block
        found = [block.x, *(block.memory[name] for name in sorted(block.memory)), *block.optimizer.rows()]
        if any(part.shape != block.x.shape for part in found):
            raise ExperimentError("strategy: theory covers only memory in the shape of the parameters")
        return found

    def read(self) -> Array:
        """Return the state, [B, R, S]."""
        K, B, m = self.shape
        parts = [part.view(self.replicas, K, B, m).permute(2, 0, 1, 3).flatten(2) for part in self.parts()]
        return np.asarray(torch.cat(parts, dim=2).numpy())

    def write(self, states: Array) -> None:
        """Set the state, [B, R, S]."""
        K, B, m = self.shape
        parts = self.parts()
        for part, values in zip(parts, np.split(states, len(parts), axis=2), strict=True):
            rows = torch.tensor(values).view(B, self.replicas, K, m).permute(1, 2, 0, 3)
            part.copy_(rows.reshape(part.shape))

    def take(self, number: int, noise: Tensor | None = None) -> None:
        """Take a step of the run, with noise [R, K, B, m] in its gradients."""
        self.engine.noise = None if noise is None else [noise]
        self.block.step = number
        self.block.advance(number + 1)


class _Steps:
    """The steps of a run on some blocks, as affine maps.

    The first step has no state to act on: agents start equal, and memory begins with it.
    """

    def __init__(self, setup: Setup, quadratics: Quadratics) -> None:
        self.setup, self.quadratics = setup, quadratics
        K, _, m = quadratics.shifts.shape
        first = _Probe(setup, quadratics, K * m + 1 + len(_SIZES))
        self.first = self._map(first, 0, 0)
        self.size = self.first.c.shape[1]
        self.later = _Probe(setup, quadratics, self.size + K * m + 1 + len(_SIZES))
        self.later.take(0)  # memory exists from the first step on

    def step(self, number: int) -> Recursion:
        """Return the map of a step after the first."""
        return self._map(self.later, number, self.size)

    def _map(self, probe: _Probe, number: int, size: int) -> Recursion:
        """Take a step from unit vectors of the state, [S], and of the noise, one replica each."""
        K, B, m = probe.shape
        inputs = np.zeros((B, probe.replicas, size + K * m))
        inputs[:, : -1 - len(_SIZES)] = np.eye(size + K * m)  # then a replica of zeros, and some of random numbers
        random = np.random.default_rng(0).standard_normal((B, len(_SIZES), size + K * m))
        inputs[:, -len(_SIZES) :] = np.array(_SIZES)[:, None] * random
        if size:
            probe.write(inputs[..., :size])
        noise = torch.tensor(inputs[..., size:]).view(B, probe.replicas, K, m).permute(1, 2, 0, 3)
        probe.take(number, noise)
        after = probe.read()
        if size not in (0, after.shape[2]):
            raise ExperimentError("strategy: its memory begins after its first step, which theory does not cover")
        c = after[:, -1 - len(_SIZES)]
        moved = after - c[:, None]
        response = moved[:, : -1 - len(_SIZES)].swapaxes(1, 2)
        wrong = np.abs(moved[:, -len(_SIZES) :] - inputs[:, -len(_SIZES) :] @ response.swapaxes(1, 2)).max(axis=(0, 2))
        scale = np.array(_SIZES) * np.abs(response).max() + np.abs(c).max()
        if not (wrong <= 1e-9 * inputs.shape[2] * scale).all():
            names = f"{self.setup.config.strategy.name} with {self.setup.config.optimizer.name}"
            raise ExperimentError(
                f"strategy: a step of {names} is not affine in state and noise, which theory does not cover"
            )
        F, G = response[..., :size], response[..., size:].reshape(B, -1, K, m)
        Q = np.einsum("bski,kbij,btkj->bst", G, self.quadratics.noise, G, optimize=True)
        return Recursion(F, Q, c, 1, self.quadratics, self.setup.centroid_weights)


def _chunks(setup: Setup, quadratics: Quadratics) -> Iterator[_Steps]:
    """Yield the steps of a few blocks at a time."""
    if setup.config.personal:
        raise ExperimentError(
            "personal: unmixed parameters have a different minimum at each agent, which theory does not cover"
        )
    K, B, m = quadratics.shifts.shape
    size = _Steps(setup, quadratics.blocks(slice(0, 1))).size
    chunk = max(1, _NUMBERS // ((size + K * m + 1 + len(_SIZES)) * size))
    for start in range(0, B, chunk):
        yield _Steps(setup, quadratics.blocks(slice(start, start + chunk)))


def _period(setup: Setup) -> int:
    """Return the period of the steps, apart from their learning rate."""
    return math.lcm(len(setup.sequence), int(getattr(setup.strategy(), "period", 1)))


def probe(setup: Setup, quadratics: Quadratics) -> Recursion:
    """Compute the recursion of a run's step on quadratics.

    Strategy, weights, optimizer and learning rate are the run's; the schedule is taken as constant.

    Args:
        setup: The parts of a run; its task, model and data do not matter.
        quadratics: The agents' losses.

    Returns:
        The recursion, over the period of the strategy and of its sequence of graphs.

    Raises:
        ExperimentError: If the step is not affine (for example, the strategy compresses or the optimizer normalises),
            some parameters are personal, or agents attack.

    Example:
        >>> from basinet.sim.experiment.config import Config
        >>> from basinet.sim.setup.build import build_setup
        >>> parts = {"task": "quadratic", "topology": {"name": "ring", "agents": 3}, "strategy": "diffusion"}
        >>> setup = build_setup(Config.parse({**parts, "optimizer": {"name": "sgd", "lr": 0.1}}))
        >>> recursion = probe(setup, Quadratics.of([1.0], [3.0], agents=3))
        >>> round(recursion.excess_risk(recursion.settled()).centroid, 6)
        0.026316
    """
    constant = setup.config.model_copy(update={"schedule": KINDS["schedule"].parse("constant")})
    setup, period = dataclasses.replace(setup, config=constant), _period(setup)
    numbers = range(period, 2 * period)
    found = [reduce(Recursion.then, map(steps.step, numbers)) for steps in _chunks(setup, quadratics)]
    F, Q, c = (np.concatenate([getattr(part, name) for part in found]) for name in ("F", "Q", "c"))
    return Recursion(F, Q, c, period, quadratics, setup.centroid_weights)


def probed_excess_risk(setup: Setup, quadratics: Quadratics, num_steps: int) -> RiskParts:
    """Compute the exact excess risk after a number of the run's own steps from the minimum.

    Args:
        setup: The parts of a run; its task, model and data do not matter.
        quadratics: The agents' losses.
        num_steps: Number of steps, at least 1, with the run's first learning rates.

    Returns:
        The parts of the excess risk.

    Raises:
        ExperimentError: As for `probe`.

    Example:
        >>> from basinet.sim.experiment.config import Config
        >>> from basinet.sim.setup.build import build_setup
        >>> parts = {"task": "quadratic", "topology": {"name": "ring", "agents": 3}, "strategy": "local_sgd"}
        >>> setup = build_setup(Config.parse({**parts, "optimizer": {"name": "sgd", "lr": 0.1}}))
        >>> one = probed_excess_risk(setup, Quadratics.of([1.0], [3.0], agents=3), 1)  # of a period of four
        >>> round(one.total, 9)
        0.015
    """
    period = _period(setup)
    parts = []
    for steps in _chunks(setup, quadratics):
        recursion = steps.first
        moments = recursion.c, recursion.Q
        # At constant learning rate, whole periods repeat.
        for _, same in groupby(range(1, num_steps), key=setup.rate_factor):
            numbers = list(same)
            periods = len(numbers) // period
            if periods:
                recursion = reduce(Recursion.then, map(steps.step, numbers[:period]))
                moments = recursion.after(periods, moments)
            for number in numbers[periods * period :]:
                recursion = steps.step(number)
                moments = recursion.after(1, moments)
        parts.append(dataclasses.astuple(recursion.excess_risk(moments)))
    return RiskParts(*map(sum, zip(*parts, strict=True)))


def probed_stability_limit(setup: Setup, top_eigenvalue: float) -> float:
    """Compute the step size at and above which a minimum is unstable, from the strategy's own step.

    Args:
        setup: The parts of a run.
        top_eigenvalue: Largest eigenvalue of the agents' common Hessian.

    Returns:
        The step size, to a relative accuracy of about 1e-4; for an optimizer with momentum, its `lr`.

    Raises:
        ExperimentError: If the step is not affine.
        ValueError: If all step sizes up to 4 / `top_eigenvalue` are stable.
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
