"""The context of an analysis: model, task, samples and points of a run."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.samples import Share
from basinet.analysis.measures.measure import Needs
from basinet.analysis.measures.measured import FULL, Effort, Network, Points, repeated
from basinet.sim.agents.state import measured_parameters, weighted_mean
from basinet.sim.data.rows import Stored, in_memory, length, take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models.modules import copy_model, move_model
from basinet.sim.run.analyzed import MOST_STEPS, STEP_BYTES, room_for_steps, samples_used
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Task

__all__ = ["AnalysisContext", "lanczos_steps"]

_log = logging.getLogger(__name__)

_LEAST_STEPS = 10
"""Minimum number of Lanczos steps for useful eigenvalues and traces."""


def lanczos_steps(memory: int, num_parameters: int) -> int:
    """Choose the maximum number of Lanczos steps.

    Args:
        memory: Memory for the analysis in MiB, half of it for the Krylov basis.
        num_parameters: P.

    Returns:
        As many steps as fit into memory, at most 100.

    Raises:
        ExperimentError: If fewer than 10 fit.
    """
    steps = room_for_steps(memory, num_parameters)
    if steps < min(_LEAST_STEPS, num_parameters):
        least = math.ceil(2 * _LEAST_STEPS * STEP_BYTES * num_parameters / 2**20)
        raise ExperimentError(
            f"analysis_memory: {memory} MiB hold {steps} Lanczos steps of {num_parameters:,} parameters; "
            f"give {least} for {_LEAST_STEPS}, {least * MOST_STEPS // _LEAST_STEPS} for {MOST_STEPS}"
        )
    return steps


@dataclass
class AnalysisContext:
    """Model, task and samples of a run, in the dtype and mode of the analysis.

    Args:
        setup: The parts of the run.
        share: The share of the samples that this worker sums over.
        needs: The combined needs of all measures.
        effort: How much work goes into spectra.

    Raises:
        ExperimentError: If a part of the analysis is not available.
    """

    setup: Setup
    share: Share = field(default_factory=Share)
    needs: Needs = field(default_factory=Needs)
    effort: Effort = FULL

    def __post_init__(self) -> None:
        config = self.setup.config
        self.dtype = getattr(torch, config.analysis_dtype)
        self.device = runtime_of(config.runtime).device()
        self.task: Task = self.setup.task.to(self.device, self.dtype)
        self.model: nn.Module = move_model(self.setup.template(), self.device, self.dtype)
        self.training = config.analysis_mode == "training"
        self.model.train(self.training)
        # In evaluation mode, as during the run, whatever the mode of the analysis.
        self.evaluated = copy_model(self.model).eval() if self.training else self.model
        self.suffix = "_training" if self.training else ""
        self.budget: int = config.analysis_memory * 2**20
        self.faults: dict[str, str | None] = {}  # faults of derivatives, shared by all objectives
        self.chosen = self._chosen()
        self.data = in_memory(self.task.train) if self.chosen is None else take(self.task.train, self.chosen)
        # Measures of single samples take them from memory.
        stored = isinstance(self.task.train, Stored)
        self.sampled = replace(self.task, train=self.data) if stored else self.task

    def _chosen(self) -> Tensor | None:
        """Draw the fixed subset of the samples, ascending; None for all."""
        total, count = length(self.task.train), samples_used(self.setup)
        if count is None:
            return None
        if self.setup.config.analysis_samples is None:
            _log.warning(
                "analysis_samples: the %d samples do not fit into analysis_memory (%d MiB), so %d of them are measured",
                total,
                self.setup.config.analysis_memory,
                count,
            )
        key = torch.tensor([draws.key(self.setup.config.seed, "analysis samples")])
        order = draws.permutation(key, torch.tensor([total]), total)[0]
        return order[:count].sort().values.to(self.device)

    def honest(self, replica: int) -> list[int]:
        """List the honest agents, which are the ones measured.

        Args:
            replica: Index of the replica.

        Returns:
            Their indices.
        """
        honest: list[int] = (~self.setup.attackers[replica]).nonzero()[0].tolist()
        return honest

    def weights(self, replica: int) -> Tensor:
        """Return the weights of the honest agents in the centroid.

        Args:
            replica: Index of the replica.

        Returns:
            π, with sum one, float64 on the CPU.
        """
        return torch.from_numpy(self.setup.honest_weights[replica, self.honest(replica)])

    def holdings(self, replica: int) -> list[Tensor]:
        """List the samples that each honest agent holds, as indices into the chosen data.

        Args:
            replica: Index of the replica.

        Returns:
            The indices of each agent, int64.

        Raises:
            ExperimentError: If an agent holds none of the chosen samples.
        """
        honest, holdings = self.honest(replica), self.setup.holdings[replica]
        held = [torch.from_numpy(holdings[agent]).to(self.device, torch.int64) for agent in honest]
        if self.chosen is None:
            return held
        found = []
        counts = self.task.counts(self.data)
        for agent, mine in zip(honest, held, strict=True):
            places = torch.isin(self.chosen, mine).nonzero()[:, 0]
            if not len(places if counts is None else counts[places].nonzero()):
                raise ExperimentError(
                    f"analysis_samples: agent {agent} of replica {replica} holds none of the"
                    f" {len(self.chosen)} samples; give more of them"
                )
            found.append(places)
        return found

    def objective(self, count: int, holdings: list[Tensor] | None = None) -> Objective:
        """Construct the losses over all chosen samples, or over those of each agent.

        Args:
            count: Number of points to measure.
            holdings: The sample indices of each point.

        Returns:
            The losses, in chunks that fit into half of the memory of the analysis.
        """

        def make(chunk: int | None) -> Objective:
            return Objective(
                self.model,
                self.task.objective,
                self.data,
                holdings=holdings,
                chunk=chunk,
                training=self.training,
                share=self.share,
                faults=self.faults,
                products=self.setup.config.analysis_products,
            )

        whole = make(None)
        most = self.most_samples(whole, count)
        fixed = self.training or self.task.mean_over == "batch"
        return whole if fixed or most >= length(self.data) else make(max(1, most))

    def most_samples(self, objective: Objective, count: int) -> int:
        """Choose the number of samples differentiated at once.

        Args:
            objective: The losses.
            count: Number of points to measure.

        Returns:
            As many as fit into half of the memory of the analysis.
        """
        return self.budget // 2 // (objective.bytes_per_sample() * min(count, self.group(objective.num_parameters)))

    def group(self, num_parameters: int) -> int:
        """Choose the number of points measured side by side.

        Args:
            num_parameters: P.

        Returns:
            As many as fit their Krylov bases into half of the memory, from 1 to 64.
        """
        return max(1, min(64, self.budget // 2 // (STEP_BYTES * num_parameters * MOST_STEPS)))

    def network(self, state: dict[str, Any], replica: int) -> Network:
        """Collect the agents of a replica and their centroid.

        Args:
            state: The state of the replica's rows.
            replica: Index of the replica.

        Returns:
            The network.
        """
        weights, names = self.weights(replica), self.honest(replica)
        center = self._points(self.objective(1), *self.centroid(state, replica), replica, (None,), "")
        agents = cache(lambda: Curvature(center.hessian.objective, *self.agents(state, replica)))

        def own() -> Curvature:
            objective = self.objective(len(names), self.holdings(replica))
            return Curvature(objective, agents().points, agents().buffers)

        asked = "own" in self.setup.config.analysis_views
        return Network(self.setup, state["step"], center, agents, names, weights, own if asked else None)

    def points(self, network: Network, replica: int) -> Iterator[Points]:
        """Iterate over the points of a replica, for each view of the data that the run asks for.

        Args:
            network: The agents and their centroid.
            replica: Index of the replica.

        Yields:
            Groups of as many points as fit into memory, view by view.
        """
        for points in self._views(network, replica):
            count = len(points.agents)
            group = self.group(points.hessian.points.shape[1])
            yield from (points.part(slice(start, min(start + group, count))) for start in range(0, count, group))

    def _views(self, network: Network, replica: int) -> Iterator[Points]:
        config, every = self.setup.config, tuple(network.names)
        count, agents = len(every), network.agents
        if "centroid" in config.analysis_points:
            yield network.center
        if "agents" in config.analysis_points:
            yield self._points(self.objective(count), agents().points, agents().buffers, replica, every, "")
        if "own" in config.analysis_views:
            own = self.objective(count, self.holdings(replica))
            if "agents" in config.analysis_points:
                yield self._points(own, agents().points, agents().buffers, replica, every, "_own")
            if "centroid" in config.analysis_points:
                everyone = repeated(network.center.hessian, count)
                yield self._points(own, *everyone, replica, every, "_own_at_centroid")

    def _points(
        self,
        objective: Objective,
        points: Tensor,
        buffers: Mapping[str, Tensor],
        replica: int,
        agents: tuple[int | None, ...],
        view: str,
    ) -> Points:
        config = self.setup.config
        # The same draws at all points of a replica, so that estimation errors largely cancel in comparisons.
        keys = torch.tensor([draws.key(config.seed, "analysis", replica)] * len(agents), device=self.device)
        steps = lanczos_steps(config.analysis_memory, objective.num_parameters) if self.needs.basis else MOST_STEPS
        return Points(
            hessian=Curvature(objective, points, buffers),
            keys=keys,
            task=self.sampled,
            model=self.evaluated,
            seed=draws.key(config.seed, replica),
            agents=agents,
            suffix=view + self.suffix,
            whole=not view,
            needs=self.needs,
            max_steps=steps,
            effort=self.effort,
            memory=self.budget // 2,
        )

    def agents(self, state: dict[str, Any], replica: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the honest agents of a replica.

        Args:
            state: The state of the replica's rows.
            replica: Index of the replica.

        Returns:
            Parameters [H, P] and buffers [H, ...] by name, in the dtype and on the device of the analysis.
        """
        rows, honest = state["rows"], self.honest(replica)
        buffers = {name: self._moved(b[honest]) for name, b in rows["buffers"].items()}
        return self._moved(measured_parameters(state)[honest]), buffers

    def centroid(self, state: dict[str, Any], replica: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the centroid of the honest agents of a replica.

        Args:
            state: The state of the replica's rows.
            replica: Index of the replica.

        Returns:
            Parameters [1, P] and buffers [1, ...] by name.
        """
        pi, honest = self.weights(replica), self.honest(replica)
        rows = state["rows"]
        buffers = {name: self._moved(weighted_mean(b[honest], pi)) for name, b in rows["buffers"].items()}
        return self._moved(weighted_mean(measured_parameters(state)[honest], pi)), buffers

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)
