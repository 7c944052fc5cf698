"""What measures look at: points side by side, and the network of a replica's agents."""

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
"""Residual of an eigenvalue that is small enough, as a part of it; of the largest at the bottom."""


@dataclass(frozen=True)
class Effort:
    """How much work goes into the spectra of curvature matrices.

    Attributes:
        lanczos_steps: Steps of a Krylov run, at least and at most; memory may hold fewer.
        probes: Probes of a round, and probes after which no round is begun.
        trial: Whether measures are only tried: with the settings that take the least work.
    """

    lanczos_steps: tuple[int, int] = (30, 100)
    probes: tuple[int, int] = (10, 30)
    trial: bool = False


FULL = Effort()

LEAST = Effort(lanczos_steps=(1, 1), probes=(2, 2), trial=True)
"""What tells whether a measure can be had."""


@dataclass(frozen=True)
class Points:
    """Points that are measured side by side.

    Attributes:
        hessian: Hessian, gradient and loss at N points.
        keys: Keys of all random draws there, int64 [N].
        task: The task, whose samples may be more than those that the losses are the means of.
        model: A model of the task, see `models`.
        seed: Seed of draws that have no place among the keys.
        agents: The agent of each point, whose row of metrics the values belong to; None for the centroid's.
        suffix: What is added to the names of the measures: "" under all samples, "_own" at an agent under its own
            samples, "_own_at_centroid" at the centroid under the samples of an agent; "_training" in training mode.
        whole: Whether the losses are those of all samples, not of single agents'.
        needs: What all measures together need, for which one snapshot of the Hessian is taken.
        max_steps: Largest number of Lanczos steps that memory permits.
        effort: How much work goes into spectra.
        memory: Bytes that a measure may take for what it keeps.
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
        """Take some of the points.

        Args:
            rows: Which.

        Returns:
            The points.
        """
        if rows == slice(0, len(self.agents)):
            return self
        keys, agents = self.keys[rows], self.agents[rows]
        return replace(self, hessian=self.hessian.part(rows), keys=keys, agents=agents)

    @cached_property
    def snapshot(self) -> tuple[Krylov, list[Spectrum]]:
        """The Krylov bases and the spectra, taken once for all measures."""
        return take_snapshot(self.hessian, self.keys, self.needs, max_steps=self.max_steps, effort=self.effort)

    def folded(self, purpose: int) -> Tensor:
        """Derive keys of random draws.

        Args:
            purpose: Tells draws of one measure from those of another.

        Returns:
            A key a point, int64 [N].
        """
        return draws.fold(self.keys, purpose)

    def operators(self) -> list[HessianOperator]:
        """Give the Hessian of each point as an operator of its own.

        Returns:
            The operators.
        """
        return [HessianOperator.of(self.hessian.part(slice(k, k + 1))) for k in range(len(self.agents))]

    def models(self) -> Iterator[nn.Module]:
        """Give a model the values of each point in turn.

        Returns:
            The model, the same one each time.
        """
        return models_at(self.model, self.hessian)


@dataclass(frozen=True)
class Network:
    """The agents of a replica that are measured together: those that do not attack.

    Attributes:
        setup: The parts of the run.
        step: How many steps have been taken.
        center: The agents' centroid, under all samples.
        agents: Gives the agents, under all samples.
        names: Their numbers.
        weights: Their weights π in the centroid, which sum to one, float64 on the CPU.
        own: Gives the agents, each under its own samples; None where that is not asked for.
    """

    setup: Setup
    step: int
    center: Points
    agents: Callable[[], Curvature]
    names: list[int]
    weights: Tensor
    own: Callable[[], Curvature] | None = None


def models_at(model: nn.Module, points: Curvature) -> Iterator[nn.Module]:
    """Give a copy of a model the values of each point in turn.

    Args:
        model: The model, in the mode that is wanted.
        points: The points.

    Yields:
        The copy, the same one each time.
    """
    model = copy_model(model)
    for k, point in enumerate(points.points):
        yield load_vector(model, point, {name: b[k] for name, b in points.buffers.items()})


def repeated(centroid: Curvature, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Repeat the centroid for each agent.

    Args:
        centroid: The centroid, one point.
        count: How many agents there are.

    Returns:
        Parameters [count, P] and buffers [count, ...] by name.
    """
    buffers = {name: b.expand(count, *b.shape[1:]) for name, b in centroid.buffers.items()}
    return centroid.points.expand(count, -1), buffers


def take_snapshot(
    hessian: Curvature, keys: Tensor, needs: Needs, *, max_steps: int, effort: Effort = FULL
) -> tuple[Krylov, list[Spectrum]]:
    """Take a snapshot of the Hessian at many points: one Krylov run and a few probes, as measures need them.

    Args:
        hessian: The Hessians, at N points.
        keys: Keys of the random draws, int64 [N].
        needs: What the measures need.
        max_steps: Largest number of Lanczos steps.
        effort: How much work to put in.

    Returns:
        The Krylov bases, and the spectra. Their readings are the traces of the layers' blocks, then Σ s_i² H_ii with
        the scales s of the parameters, and with those of the filters.
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
