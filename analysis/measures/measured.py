"""The objects that measures are taken on: points side by side, and the network of a replica's agents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.curvature.krylov import Krylov
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.scales import scales, split
from basinet.analysis.curvature.spectral import Spectrum, spectra
from basinet.analysis.measures.measure import Needs
from basinet.sim.agents.state import load_vector
from basinet.sim.models.modules import copy_model
from basinet.sim.run.analyzed import MOST_STEPS
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Task

__all__ = ["FULL", "LEAST", "TOL", "Effort", "Network", "Points", "models_at", "repeated", "take_snapshot"]

TOL = 1e-3
"""Tolerance of eigenvalue residuals, relative to the eigenvalue at the top and to the largest one at the bottom."""


@dataclass(frozen=True)
class Effort:
    """How much work goes into the spectra of curvature matrices.

    Attributes:
        lanczos_steps: Minimum and maximum steps of a Krylov run; memory may allow fewer.
        probes: Probes per round, and the number after which no further round starts.
        trial: Whether this is a trial, with the settings that take the least work.
    """

    lanczos_steps: tuple[int, int] = (30, 100)
    probes: tuple[int, int] = (10, 30)
    trial: bool = False


FULL = Effort()

LEAST = Effort(lanczos_steps=(1, 1), probes=(2, 2), trial=True)
"""Just enough to find out whether a measure is available."""


@dataclass(frozen=True)
class Points:
    """Points that are measured side by side.

    Attributes:
        hessian: Hessian, gradient and loss at N points.
        keys: Keys of all random draws at the points, int64 [N].
        task: The task, which may have more samples than the losses average over.
        model: A model of the task, see `models`.
        seed: Seed of draws that are not made per point.
        agents: The agent of each point, to whose row of metrics the values belong; None for the centroid.
        suffix: Suffix of the measures' names: "" on all samples, "_own" at an agent on its own samples,
            "_own_at_centroid" at the centroid on an agent's samples; "_training" in training mode.
        whole: Whether the losses are over all samples, not those of single agents.
        needs: The combined needs of all measures, for which one snapshot of the Hessian is taken.
        max_steps: Maximum number of Lanczos steps that memory permits.
        effort: How much work goes into spectra.
        memory: Bytes that a measure may use for retained data.
    """

    hessian: Curvature
    keys: Tensor
    task: Task
    model: nn.Module
    seed: int = 0
    agents: tuple[int | None, ...] = (None,)
    suffix: str = ""
    whole: bool = True
    needs: Needs = field(default_factory=Needs)
    max_steps: int = MOST_STEPS
    effort: Effort = FULL
    memory: int = 2**30

    def part(self, rows: slice) -> "Points":
        """Return some of the points.

        Args:
            rows: The points to keep.

        Returns:
            These points.
        """
        if rows == slice(0, len(self.agents)):
            return self
        keys, agents = self.keys[rows], self.agents[rows]
        return replace(self, hessian=self.hessian.part(rows), keys=keys, agents=agents)

    @cached_property
    def snapshot(self) -> tuple[Krylov, list[Spectrum]]:
        """The Krylov bases and spectra, computed once for all measures."""
        return take_snapshot(self.hessian, self.keys, self.needs, max_steps=self.max_steps, effort=self.effort)

    def folded(self, purpose: int) -> Tensor:
        """Derive keys for random draws.

        Args:
            purpose: Separates the draws of one measure from those of another.

        Returns:
            One key per point, int64 [N].
        """
        return draws.fold(self.keys, purpose)

    def operators(self) -> list[HessianOperator]:
        """Return the Hessian of each point as a separate operator.

        Returns:
            One operator per point.
        """
        return [HessianOperator.of(self.hessian.part(slice(k, k + 1))) for k in range(len(self.agents))]

    def models(self) -> Iterator[nn.Module]:
        """Iterate over the points as models.

        Returns:
            An iterator that loads each point in turn into the same model.
        """
        return models_at(self.model, self.hessian)


@dataclass(frozen=True)
class Network:
    """The honest agents of a replica, measured together.

    Attributes:
        setup: The parts of the run.
        step: Number of steps taken.
        center: The agents' centroid, on all samples.
        agents: Returns the agents, on all samples.
        names: Their indices.
        weights: Their weights π in the centroid, with sum one, float64 on the CPU.
        own: Returns the agents, each on its own samples; None if not requested.
    """

    setup: Setup
    step: int
    center: Points
    agents: Callable[[], Curvature]
    names: list[int]
    weights: Tensor
    own: Callable[[], Curvature] | None = None


def models_at(model: nn.Module, points: Curvature) -> Iterator[nn.Module]:
    """Load each point in turn into a copy of a model.

    Args:
        model: The model, in the desired mode.
        points: The points.

    Yields:
        The copy, the same object each time.
    """
    model = copy_model(model)
    for k, point in enumerate(points.points):
        yield load_vector(model, point, {name: b[k] for name, b in points.buffers.items()})


def repeated(centroid: Curvature, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Repeat the centroid for each agent.

    Args:
        centroid: The centroid, one point.
        count: Number of agents.

    Returns:
        Parameters [count, P] and buffers [count, ...] by name.
    """
    buffers = {name: b.expand(count, *b.shape[1:]) for name, b in centroid.buffers.items()}
    return centroid.points.expand(count, -1), buffers


def take_snapshot(
    hessian: Curvature, keys: Tensor, needs: Needs, *, max_steps: int, effort: Effort = FULL
) -> tuple[Krylov, list[Spectrum]]:
    """Compute the spectrum of the Hessian at many points, as far as measures need it.

    Args:
        hessian: The Hessians, at N points.
        keys: Keys of the random draws, int64 [N].
        needs: What the measures need.
        max_steps: Maximum number of Lanczos steps.
        effort: How much work to put in.

    Returns:
        The Krylov bases and the spectra. The readings are the traces of the layers' blocks, then Σ s_i² H_ii with the
        adaptive and with the filter scales s.
    """
    size = hessian.points.shape[1]
    shapes = hessian.objective.shapes
    squares = [scales(hessian.points.double(), shapes, kind).square() for kind in ("adaptive", "filter")]

    def readings(diagonals: Tensor) -> Tensor:
        layers = [part.view(len(part), -1).sum(1) for part in split(diagonals, shapes).values()]
        return torch.stack([*layers, *((diagonals * square).sum(1) for square in squares)], 1)

    return spectra(
        hessian.products,
        keys,
        size,
        top=min(size, max(1, needs.top)),
        bottom=min(size, needs.bottom),
        tol=TOL,
        steps=effort.lanczos_steps[0],
        max_steps=max(1, needs.top, needs.bottom, min(max_steps, effort.lanczos_steps[1])),
        num_probes=effort.probes[0] if needs.probes else 0,
        max_probes=effort.probes[1],
        readings=readings,
        agree=hessian.objective.share.agree,
    )
