"""The worker: hosts a block, runs its steps on its own, and measures between them.

There is one class, whoever starts it; see `basinet.sim.runtimes`.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import load_vector, take_rows
from basinet.sim.engines import EngineName
from basinet.sim.experiment.blame import blaming
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Runtime
from basinet.sim.models.modules import copy_model, evaluation_mode
from basinet.sim.run.records import Row
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Task

__all__ = ["Analysis", "Worker", "measure_some", "pick_device"]

Analysis = Callable[[Setup, dict[str, Any], int, int, int], list[Row]]
"""Measures a replica of a run from the state of its rows: takes the setup, the state, the replica's number, the
worker's rank and how many workers there are. They call it alike and share its sums; each returns everything. A row with
the key `table` belongs to the table of that name; one with the key `failed` says of that measure for what `reason` it
could not be taken, with the `traceback`; every other one belongs to the metrics."""


def measure_some(
    analysis: Analysis, measures: tuple[str, ...], setup: Setup, state: dict[str, Any], *where: int
) -> list[Row]:
    """Analyse a replica for some of its measures alone.

    Args:
        analysis: Measures what the configuration asks for.
        measures: Names of those that are to be taken.
        setup: The parts of the run.
        state: The state of the replica's rows.
        *where: The replica's number, the worker's rank and how many workers there are.

    Returns:
        What the analysis has found.
    """
    chosen = tuple(component for component in setup.config.analysis if component.name in measures)
    config = setup.config.model_copy(update={"analysis": chosen})
    return analysis(dataclasses.replace(setup, config=config), state, *where)


def pick_device(runtime: Runtime) -> torch.device:
    """Choose the device of a worker.

    Args:
        runtime: Its `device` is "auto" (a GPU if torch sees one that this worker may use), or torch's name of one;
            of several GPUs, a process that torchrun has started takes that of its `LOCAL_RANK`.

    Returns:
        The device.
    """
    may_use = runtime.name != "ray" or runtime.gpus_per_actor > 0
    chosen = "cuda" if may_use and torch.cuda.is_available() else "cpu"
    device = torch.device(chosen if runtime.device == "auto" else runtime.device)
    if device == torch.device("cuda") and runtime.name != "ray" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % max(1, torch.cuda.device_count()))
    return device


def granted_threads(runtime: Runtime) -> int:
    """Find how many threads a worker may use.

    Args:
        runtime: Its `threads`, if given, are the answer.

    Returns:
        Else the processors that Ray reserves for an actor, or those that this process may use: as its affinity and
        `OMP_NUM_THREADS` say, and shared with the other ranks that torchrun has started on the machine.
    """
    if runtime.threads is not None:
        return runtime.threads
    if runtime.name == "ray":
        return max(1, int(runtime.cpus_per_actor))
    limit = os.environ.get("OMP_NUM_THREADS", "")
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if runtime.name == "torchrun" else 1
    processors = max(1, len(os.sched_getaffinity(0)) // sharing)
    return min(processors, int(limit)) if limit.isdigit() and int(limit) else processors


_MEASURE_MEMORY = 2 * 2**30
"""Bytes that the activations of samples which are measured together may take."""

_MEASURED_TOGETHER = 4096
"""Samples that are measured together where they are small."""


def measured_together(model: nn.Module, task: Task, memory: int | None = None) -> int:
    """Find how many samples may pass through a model together, so that the activations have room.

    Args:
        model: The model, in the mode in which it is measured.
        task: Gives the loss and the samples.
        memory: Bytes that they may take; None takes what the measurements during a run may.

    Returns:
        How many, at least one.
    """

    def kept(count: int) -> int:
        """Count the bytes that a pass over so many samples keeps for its way back."""
        storages: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        # Clones: of a view all samples would count.
        batch = tuple(t[:count].clone() for t in task.train)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            task.loss(model, batch)
        return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())

    each = (kept(4) - kept(2)) // 2 if len(task.train[0]) >= 4 else 0
    return max(1, min(_MEASURED_TOGETHER, (_MEASURE_MEMORY if memory is None else memory) // max(1, each)))


class Worker:
    """Runs and measures one block.

    All workers of a run call `advance` and `measure` alike: rows travel between them inside.

    Args:
        setup: The parts of the run.
        placement: Which rows live here.
        engine: Name of the engine, or "auto"; a resumed run names the one that it began with.
    """

    def __init__(self, setup: Setup, placement: Placement, engine: EngineName) -> None:
        self.setup = setup
        self.placement = placement
        runtime = setup.config.runtime
        torch.set_num_threads(1)
        with blaming(setup, placement.workers):
            self.block = Block(setup, placement, pick_device(runtime), engine, granted_threads(runtime))
            self.model = copy_model(self.block.template)
            self.together = measured_together(evaluation_mode(self.model), self.block.task)
        if not self.block.engine.grain:
            torch.set_num_threads(self.block.threads)

    def advance(self, until: int) -> int:
        """Take steps.

        Args:
            until: The step to stop at.

        Returns:
            The step reached.
        """
        with blaming(self.setup, self.placement.workers):
            self.block.advance(until)
        return self.block.step

    def engine_choice(self) -> str:
        """Tell which engine runs.

        Returns:
            Its name, and why it was chosen.
        """
        return self.block.engine_choice

    def measure(self) -> tuple[list[Row], dict[int, int]]:
        """Measure the centroid of each replica, or the mean over its agents where some parameters are personal.

        Agents that attack do not count.

        Returns:
            The measurements of the replicas that this worker evaluates (every worker takes its share), and of
            the replicas found here to have left the finite numbers, the step at which they did so.
        """
        block, mixer = self.block, self.block.mixer
        centroids = mixer.centroid(block.x)
        distances = {"consensus_distance": self._distances(centroids, mixer.distances)}
        if self.setup.attackers.any():
            distances["attackers_distance"] = self._distances(centroids, mixer.distances_left_out)
        buffers = block.centroid_buffers()
        escaped = [] if block.escape is None else block.escape.steps.tolist()
        rows = []
        diverged = self._diverged()
        means = self._agents() if block.personal else None
        for replica in range(self.placement.rank, self.placement.replicas, self.placement.workers):
            if not torch.isfinite(centroids[replica]).all():
                diverged.setdefault(replica, block.step)
                continue
            if means is None:
                metrics = self._evaluate(centroids[replica], {name: b[replica] for name, b in buffers.items()})
            else:
                metrics = means[replica]
            if not math.isfinite(metrics["train_loss"]):
                diverged.setdefault(replica, block.step)
                continue
            rows.append(
                {
                    "step": block.step,
                    "replica": replica,
                    **self._epoch(replica),
                    "communicated_bytes": block.bytes_sent,
                    **metrics,
                    **{name: float(distance[replica]) for name, distance in distances.items()},
                    **({"escape_step": escaped[replica]} if escaped and escaped[replica] else {}),
                }
            )
        return rows, diverged

    def points(self) -> tuple[Tensor, Tensor]:
        """Take down this worker's part of a frame of the trajectory.

        Returns:
            On the CPU the centroids of all replicas [R, P] at the first worker, and none at others; and its agents
            [N, P] if the experiment asks for them, or none.
        """
        x, part = self.block.x.detach(), self.setup.config.trajectory
        centroids = self.block.mixer.centroid(x).to(x.dtype)
        kept = centroids if self.placement.rank == 0 else centroids[:0]
        agents = x if part is not None and part.points == "agents" else x[:0]
        return kept.cpu(), agents.cpu()

    def _evaluate(self, parameters: Tensor, buffers: dict[str, Tensor]) -> dict[str, float]:
        load_vector(self.model, parameters, buffers)
        with blaming(self.setup, self.placement.workers):
            found = self.block.task.evaluate_with_gradient(evaluation_mode(self.model), chunk=self.together)
            metrics = {name: float(value) for name, value in found.items()}
        if "train_loss" not in metrics:
            name = self.setup.config.task.component.name
            raise ExperimentError(
                f"task: {name} measures no train_loss, which every evaluation needs, but {[*metrics]}"
            )
        return metrics

    def _agents(self) -> list[dict[str, float]]:
        """Measure all honest agents, each with its own parameters, and take the mean of each replica."""
        buffers = self.block.state.buffers
        found = [
            self._evaluate(x, {name: b[n] for name, b in buffers.items()}) for n, x in enumerate(self.block.x.detach())
        ]
        table = torch.tensor([list(row.values()) for row in found], dtype=torch.float64, device=self.block.x.device)
        attacks = torch.from_numpy(self.setup.attackers[self.placement.row_replicas, self.placement.row_agents])
        table.masked_fill_(attacks.to(table.device)[:, None], 0)
        honest = torch.from_numpy((~self.setup.attackers).sum(1)).to(table)
        means = self.block.mixer.sums(table) / honest[:, None]
        return [dict(zip(found[0], row, strict=True)) for row in means.tolist()]

    def _distances(self, centroids: Tensor, distances: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Compute distances from the centroid of each replica, in the parameters that are mixed."""
        block = self.block
        if not block.personal:
            return distances(block.x, centroids)
        x, centroids = block.x.clone(), centroids.clone()
        for columns in block.personal:
            x[:, columns] = 0
            centroids[:, columns] = 0
        return distances(x, centroids)

    def _epoch(self, replica: int) -> dict[str, float]:
        if not self.setup.holdings:
            return {}
        held = self.setup.holdings[replica]
        seen = self.block.step * self.setup.config.batch_size
        return {"epoch": seen * len(held) / sum(len(h) for h in held)}

    def _diverged(self) -> dict[int, int]:
        """Find the first step with a loss of an honest agent that is not finite, replica by replica."""
        found: dict[int, int] = {}
        replicas, agents = self.placement.row_replicas, self.placement.row_agents
        attacks = self.setup.attackers[replicas, agents]
        for replica, attacker, step in zip(
            replicas.tolist(), attacks.tolist(), self.block.watch.found().tolist(), strict=True
        ):
            if step and not attacker:
                found[replica] = min(step, found.get(replica, step))
        return found

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica together with the other workers.

        Args:
            analysis: What to do.
            state: The state of the replica's rows.
            replica: Which replica it is.

        Returns:
            What was found; every worker returns the same.
        """
        with blaming(self.setup, self.placement.workers):
            return analysis(self.setup, state, replica, self.placement.rank, self.placement.workers)

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
        rows = self.placement.rows
        self.block.load_state_dict(take_rows(state, slice(rows.start, rows.stop)))


def _on_cpu(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _on_cpu(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_on_cpu(value) for value in state]
    return state.detach().cpu().clone() if isinstance(state, Tensor) else state
