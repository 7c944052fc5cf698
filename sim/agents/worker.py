"""The worker: hosts a block, runs its steps, and measures between them; see `basinet.sim.runtimes`."""

import dataclasses
import math
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from basinet.sim.agents.block import Block
from basinet.sim.agents.gradients import Clipping
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import load_vector, take_rows
from basinet.sim.clock.clock import clock_of
from basinet.sim.data.nests import map_nest
from basinet.sim.data.rows import length, take
from basinet.sim.engines import EngineName
from basinet.sim.evaluation.measuring import evaluate_with_gradient, quantities_of
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models.modules import copy_model, evaluation_mode, saved_bytes
from basinet.sim.run.early_stopping import mean_metrics
from basinet.sim.run.interruptions import WorkStopped, go_on
from basinet.sim.run.records import Row
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.runtimes.team import Analysis
from basinet.sim.runtimes.usage_meter import UsageMeter
from basinet.sim.setup.blame import blaming
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Task

__all__ = ["Worker", "measure_some", "measured_together"]


def measure_some(
    analysis: Analysis, measures: tuple[str, ...], setup: Setup, state: dict[str, Any], *where: int
) -> list[Row]:
    """Analyse a replica with some of its measures only.

    Args:
        analysis: Computes the measures of the configuration.
        measures: Names of the measures to compute.
        setup: The parts of the run.
        state: The state of the replica's rows.
        *where: The replica's number, the worker's rank and the number of workers.

    Returns:
        The rows of the analysis.
    """
    chosen = tuple(component for component in setup.config.analysis if component.name in measures)
    config = setup.config.model_copy(update={"analysis": chosen})
    return analysis(dataclasses.replace(setup, config=config), state, *where)


_MEASURE_MEMORY = 2 * 2**30
"""Memory budget in bytes for the activations of samples that are measured together."""

_MEASURED_TOGETHER = 4096
"""Largest number of samples that are measured together."""


def measured_together(model: nn.Module, task: Task, memory: int = _MEASURE_MEMORY) -> int:
    """Compute how many samples can pass through a model together within a memory budget.

    Args:
        model: The model, in the mode in which it is measured.
        task: Supplies the loss and the samples.
        memory: The budget in bytes.

    Returns:
        The number of samples, at least one.
    """

    def kept(count: int) -> int:
        batch = map_nest(
            torch.clone, take(task.train, slice(0, count))
        )  # cloned: a view would count the storage of all samples
        return saved_bytes(lambda: task.objective(model, batch))

    each = (kept(4) - kept(2)) // 2 if length(task.train) >= 4 else 0
    return max(1, min(_MEASURED_TOGETHER, memory // max(1, each)))


class Worker:
    """Runs and measures one block.

    All workers of a run must call `advance` and `measure` alike, since they exchange rows inside.

    Args:
        setup: The parts of the run.
        placement: Which rows live here.
        engine: Name of the engine, or "auto"; a resumed run names the one that it began with.
    """

    def __init__(self, setup: Setup, placement: Placement, engine: EngineName) -> None:
        self.setup = setup
        self.placement = placement
        runtime = runtime_of(setup.config.runtime)
        torch.set_num_threads(1)
        with blaming(setup, placement.workers):
            self.block = Block(setup, placement, runtime.device(), engine, runtime.threads())
            self.meter = UsageMeter(self.block, placement.rank)
            self.model = copy_model(self.block.template)
            self.together = measured_together(evaluation_mode(self.model), self.block.task)
        self.clock = None if setup.flow is None else clock_of(setup, self.block.channel.links.outages)
        if not self.block.oracle.engine.grain:
            torch.set_num_threads(self.block.oracle.threads)

    def advance(self, until: int) -> int:
        """Take steps.

        Args:
            until: The step to stop at.

        Returns:
            The step reached.
        """
        with blaming(self.setup, self.placement.workers):
            self.meter.advance(until)
        return self.block.step

    def usage(self) -> dict[str, Any]:
        """Return what this worker uses.

        Returns:
            See `UsageMeter.read`.
        """
        return self.meter.read()

    def engine_choice(self) -> str:
        """Return the engine in use.

        Returns:
            Its name, and why it was chosen.
        """
        return self.block.oracle.engine_choice

    def measure(self) -> tuple[list[Row], dict[int, int]] | None:
        """Measure the centroid of each replica, or the mean over its agents if there are personal parameters.

        Attackers are left out.

        Returns:
            The measurements of the replicas that this worker evaluates (the workers share them), and the step of
            divergence of each replica found here to have diverged. Measurements of single agents follow, of those that
            live here, if the experiment asks for them. None if a worker was to stop before its evaluations had ended;
            then no state has changed.
        """
        self.meter.begin_anew()
        block, replicas = self.block, self.block.channel.replicas
        measured = block.measured
        centroids, buffers = block.channel.centroid(measured)
        middle = centroids if measured is block.x else block.channel.centroid()[0]
        distances = {"consensus_distance": replicas.distances(block.x, middle)}
        if self.setup.attackers.any():
            distances["attackers_distance"] = replicas.distances_left_out(block.x, middle)
        diverged = self._diverged()
        here = range(self.placement.rank, self.placement.replicas, self.placement.workers)
        finite = [r for r in here if centroids[r].isfinite().all() and middle[r].isfinite().all()]
        personal, trajectory = self.setup.config.personal, self.setup.config.trajectory
        of_agents: list[dict[str, float]] = []
        of_replicas: dict[int, dict[str, float]] = {}
        finished = False
        with suppress(WorkStopped):
            if personal or (trajectory is not None and trajectory.metrics):
                of_agents = self._each(measured)
            if not personal:
                for replica in finite:
                    found = {name: b[replica] for name, b in buffers.items()}
                    of_replicas[replica] = self._evaluate(centroids[replica], found)
            finished = True
        if not self._all_have(finished):
            return None
        if personal:
            of_replicas = dict(enumerate(self._means(of_agents)))
        if block.oracle.clipping is not None and block.oracle.clipping.computed:
            distances["clipped_share"] = self._clipped_share(block.oracle.clipping)
        if block.channel.messages[0].all():
            sent, lost = block.channel.messages
            distances["lost_messages"] = torch.from_numpy(lost / sent)
        escaped = [] if block.escape is None else block.escape.steps.tolist()
        # A resumed clock starts from the first step: times do not depend on the training.
        clock = self.clock if block.events is None else block.events.clock
        if clock is not None:
            clock.advance(block.step)
        moments = None if clock is None else clock.moments()
        rows = []
        for replica in here:
            if replica not in finite or not math.isfinite(of_replicas[replica]["train_loss"]):
                diverged.setdefault(replica, block.step)
                continue
            rows.append(
                {
                    "step": block.step,
                    "replica": replica,
                    **self._epoch(replica),
                    **({} if moments is None else moments[replica]),
                    **block.sent(replica),
                    **of_replicas[replica],
                    **{name: float(distance[replica]) for name, distance in distances.items()},
                    **({"escape_step": escaped[replica]} if escaped and escaped[replica] else {}),
                }
            )
        if self.setup.rates_depend_on_evaluations:
            self._remember(rows, diverged)
        if trajectory is not None and trajectory.metrics:
            numbers = zip(self.placement.row_replicas.tolist(), self.placement.row_agents.tolist(), strict=True)
            rows += [
                {"step": block.step, "replica": replica, "agent": agent, **found}
                for (replica, agent), found in zip(numbers, of_agents, strict=True)
                if not self.setup.attackers[replica, agent]
            ]
        return rows, diverged

    def _all_have(self, finished: bool) -> bool:
        """Return whether all workers have finished their evaluations, where that matters to what they do next."""
        clips = self.block.oracle.clipping is not None
        if self.placement.workers == 1 or not (
            clips or self.setup.config.personal or self.setup.rates_depend_on_evaluations
        ):
            return finished
        unfinished = torch.tensor([not finished], dtype=torch.int32, device=self.block.x.device)
        dist.all_reduce(unfinished)
        return not unfinished.item()

    def _clipped_share(self, clipping: Clipping) -> Tensor:
        """Compute the share of the honest agents' gradients clipped since the last evaluation, [R]; count anew."""
        attackers = self.setup.attackers
        attacks = torch.from_numpy(attackers[self.placement.row_replicas, self.placement.row_agents])
        counts = clipping.clipped.double().masked_fill(attacks.to(clipping.clipped.device), 0)
        honest = torch.from_numpy((~attackers).sum(1)).to(counts)
        share = self.block.channel.replicas.sums(counts) / (honest * clipping.computed)
        clipping.reset()
        return share

    def _remember(self, rows: list[Row], diverged: dict[int, int]) -> None:
        """Keep the means over the replicas for the schedule, the same on every worker."""
        parts: list[Any] = [(rows, diverged)]
        if self.placement.workers > 1:
            parts = [None] * self.placement.workers
            dist.all_gather_object(parts, (rows, diverged))
        gone = {replica for _, found in parts for replica in found}
        for name, value in mean_metrics([row for part, _ in parts for row in part], gone).items():
            sign = -1 if self.setup.direction(name) == "larger" else 1
            self.block.evaluations.setdefault(name, []).append(sign * value)

    def points(self) -> tuple[Tensor, Tensor]:
        """Collect this worker's part of a trajectory frame.

        Returns:
            On the CPU, the centroids of all replicas [R, P] on the first worker and none on others; and this worker's
            agents [N, P] if the experiment asks for them, otherwise none.
        """
        x, part = self.block.x.detach(), self.setup.config.trajectory
        centroids = self.block.channel.replicas.centroid(x).to(x.dtype)
        kept = centroids if self.placement.rank == 0 else centroids[:0]
        agents = x if part is not None and part.points == "agents" else x[:0]
        return kept.cpu(), agents.cpu()

    def _evaluate(self, parameters: Tensor, buffers: dict[str, Tensor]) -> dict[str, float]:
        go_on()
        load_vector(self.model, parameters, buffers)
        with blaming(self.setup, self.placement.workers):
            found = evaluate_with_gradient(self.block.task, evaluation_mode(self.model), chunk=self.together)
            metrics = {name: float(value) for name, value in found.items()}
        if "train_loss" not in metrics:
            name = self.setup.config.task.component.name
            raise ExperimentError(
                f"task: {name} does not measure train_loss, which every evaluation needs, but {[*metrics]}"
            )
        missing = [name for name in quantities_of(self.block.task) if name not in metrics]
        if missing and self.setup.config.metrics:
            name = self.setup.config.task.component.name
            raise ExperimentError(
                f"metrics: {name} evaluates models in its own way and does not measure {missing[0]}, but {[*metrics]}"
            )
        return metrics

    def _each(self, points: Tensor) -> list[dict[str, float]]:
        """Measure the agents, each at its own point of [N, P]."""
        buffers = self.block.state.buffers
        return [self._evaluate(x, {name: b[n] for name, b in buffers.items()}) for n, x in enumerate(points.detach())]

    def _means(self, found: list[dict[str, float]]) -> list[dict[str, float]]:
        """Average what was measured at the honest agents of this worker, and of the others, over each replica."""
        table = torch.tensor([list(row.values()) for row in found], dtype=torch.float64, device=self.block.x.device)
        attacks = torch.from_numpy(self.setup.attackers[self.placement.row_replicas, self.placement.row_agents])
        table.masked_fill_(attacks.to(table.device)[:, None], 0)
        honest = torch.from_numpy((~self.setup.attackers).sum(1)).to(table)
        means = self.block.channel.replicas.sums(table) / honest[:, None]
        return [dict(zip(found[0], row, strict=True)) for row in means.tolist()]

    def _epoch(self, replica: int) -> dict[str, float]:
        if not self.setup.holdings:
            return {}
        held = self.setup.holdings[replica]
        seen = self.block.step * self.setup.config.batch_size
        return {"epoch": seen * len(held) / sum(len(h) for h in held)}

    def _diverged(self) -> dict[int, int]:
        """Find the first step with a non-finite loss of an honest agent, by replica."""
        found: dict[int, int] = {}
        replicas, agents = self.placement.row_replicas, self.placement.row_agents
        attacks = self.setup.attackers[replicas, agents]
        for replica, attacker, step in zip(
            replicas.tolist(), attacks.tolist(), self.block.oracle.watch.found().tolist(), strict=True
        ):
            if step and not attacker:
                found[replica] = min(step, found.get(replica, step))
        return found

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica together with the other workers.

        Args:
            analysis: The analysis.
            state: The state of the replica's rows.
            replica: The replica's number.

        Returns:
            The rows of the analysis, the same on every worker.
        """
        with blaming(self.setup, self.placement.workers):
            return analysis(self.setup, state, replica, self.placement.rank, self.placement.workers)

    def close(self) -> None:
        """End the processes that this worker has started."""
        self.block.oracle.sampler.close()

    def state(self) -> dict[str, Any]:
        """Collect the state of this worker's rows, on the CPU.

        Returns:
            Nested plain values and tensors.
        """
        state: dict[str, Any] = _on_cpu(self.block.state_dict())
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Restore this worker's rows.

        Args:
            state: The state of all rows, as a checkpoint holds it.
        """
        self.block.load_state_dict(take_rows(state, self.placement.rows))


def _on_cpu(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _on_cpu(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_on_cpu(value) for value in state]
    return state.detach().to("cpu", copy=True) if isinstance(state, Tensor) else state
