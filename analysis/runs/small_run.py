"""A miniature of a run, with few samples and agents, for a trial of its analysis."""

import dataclasses
from typing import Any

import numpy as np
import torch

from basinet.algorithms import draws
from basinet.analysis.curvature.samples import Chunk
from basinet.analysis.runs.context import AnalysisContext
from basinet.sim.data.rows import Data, Stored, length, take
from basinet.sim.evaluation.measuring import chunks
from basinet.sim.models.modules import move_model
from basinet.sim.run.analyzed import samples_used
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Batch, Task

__all__ = ["in_small", "mixes_samples", "sums_parts"]

_SAMPLES = 3
"""Minimum number of samples for a tail index."""

_AGENTS = 2

_DISTANCE = 0.05
"""Relative distance of the agents from the initial values, where ties and zeros could hide faults."""


def in_small(setup: Setup) -> tuple[Setup, dict[str, Any]]:
    """Reduce a run to a few samples and agents.

    Args:
        setup: The parts of the run.

    Returns:
        The parts of a run of one replica, and the state of its rows near the initial values.
    """
    agents = min(_AGENTS, int((~setup.attackers[0]).sum()))
    task, config = setup.task, setup.config
    runtime = config.runtime
    if runtime_of(runtime).workers_here is None:  # nothing is known about the workers' GPUs
        runtime = runtime.model_copy(update={"device": "cpu"})
    # A loss of whole batches may need samples of several kinds.
    count = max(_SAMPLES, task.measured_batch or 0) if task.mean_over == "batch" else _SAMPLES
    train = _spread(task, task.train, count)
    small = dataclasses.replace(
        setup,
        config=config.model_copy(update={"replicas": 1, "analysis_samples": None, "runtime": runtime}),
        task=dataclasses.replace(
            task, train=train, test=None if task.test is None else _spread(task, task.test, count)
        ),
        centroid_weights=np.full(agents, 1 / agents),
        attackers=np.zeros((1, agents), dtype=bool),
        holdings=[_dealt(length(train), agents)] if setup.holdings else [],
    )
    model = move_model(setup.template(), "cpu", setup.dtype)
    values = torch.cat([p.detach().double().flatten() for p in model.parameters() if p.requires_grad])
    unit = torch.where(values == 0, values.square().mean().sqrt().clamp(min=0.1), values)
    keys = torch.tensor([draws.key(config.seed, "trial", agent) for agent in range(agents)])
    points = values + _DISTANCE * unit * draws.normal(keys, values.shape)
    buffers = {name: b.expand(agents, *b.shape).clone() for name, b in model.named_buffers()}
    return small, {"step": setup.num_steps, "rows": {"parameters": points, "buffers": buffers}}


def _spread(task: Task, data: Data, count: int) -> Batch:
    """Choose a few samples that count, spread over the data; one if they differ in shape."""
    if isinstance(data, Stored) and not data.is_uniform:
        count = 1
    counts = None if isinstance(data, Stored) else task.counts(data)
    places = torch.arange(length(data)) if counts is None else counts.nonzero()[:, 0]
    return take(data, places[torch.linspace(0, len(places) - 1, min(count, len(places))).long().to(places.device)])


def _dealt(samples: int, agents: int) -> list[np.ndarray]:
    """Deal samples to agents, at least one each."""
    return [np.unique(np.arange(agent, max(samples, agent + 1), agents) % samples) for agent in range(agents)]


def mixes_samples(context: AnalysisContext, state: dict[str, Any]) -> bool:
    """Return whether the loss of a batch differs from the mean of its samples' losses, by what counts of them.

    Args:
        context: Model, task and a few samples.
        state: The state to check at.

    Returns:
        Whether they differ; False in training mode and where batches have a loss, since this is expected.
    """
    objective, (point, buffers) = context.objective(1), context.centroid(state, 0)
    if context.training or context.task.mean_over == "batch":
        return False

    def shares(size: int) -> list[float]:
        parts = chunks(context.task, context.data, size)
        return [weight * float(objective.losses(point, buffers, Chunk(part))) for part, weight in parts]

    count = length(context.data)
    with torch.no_grad():
        singles = shares(1)
        # Several sizes, since one sum may agree by chance.
        wholes = [sum(shares(size)) for size in {count, max(1, count // 2), min(2, count)}]
    # All are sums of the same terms, whose relative errors are far below √eps.
    tolerance = objective.eps**0.5 * sum(map(abs, singles))
    return any(abs(whole - sum(singles)) > tolerance for whole in wholes)


def sums_parts(setup: Setup, context: AnalysisContext) -> bool:
    """Return whether a run's loss is summed from parts of the samples.

    Args:
        setup: The parts of the run.
        context: Model, task and a few samples.

    Returns:
        Whether there are several workers, or too many samples to fit into memory together.
    """
    config = setup.config
    workers = runtime_of(config.runtime).workers
    samples = samples_used(setup) or length(setup.task.train)
    return bool(workers > 1 or context.most_samples(context.objective(1), 1) < samples)
