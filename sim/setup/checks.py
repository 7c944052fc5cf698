"""Checks whether a run is possible as asked for: its batch, partition, runtime and size."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from basinet.algorithms.optimizers import OptimizerTraits
from basinet.sim.data.rows import Stored, length
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.room import batch_bytes, check_memory
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Task

__all__ = ["check_batch", "check_events", "check_partition", "check_runtime", "check_size"]


def check_runtime(config: Config, num_agents: int) -> None:
    """Check that there is an agent for each worker, and that the device exists.

    Args:
        config: The run.
        num_agents: K.

    Raises:
        ExperimentError: There are more actors than agents, the partitioner is not installed, or torch finds no such
            device.
    """
    rows = config.replicas * num_agents
    if config.runtime.actors > rows:
        raise ExperimentError(
            f"runtime.actors: got {config.runtime.actors}; allowed are at most {rows}, one per agent of each replica"
        )
    if config.runtime.partitioner == "metis" and find_spec("pymetis") is None:
        raise ExperimentError(
            "runtime.partitioner: metis needs the package pymetis; pip install it, or give auto or none"
        )
    device = config.runtime.device
    try:
        kind = torch.device("cpu" if device == "auto" else device).type
    except RuntimeError:
        raise ExperimentError(f"runtime.device: got '{device}'; allowed are auto, cpu, cuda, cuda:1, …") from None
    here = runtime_of(config.runtime).workers_here is not None
    if kind == "cuda" and here and not torch.cuda.is_available():
        raise ExperimentError(f"runtime.device: got '{device}', but torch finds no GPU here; allowed are auto, cpu")


def check_batch(config: Config, task: Task) -> None:
    """Check that a batch has as many samples as its loss needs, but no more than the task, and as many parts as asked.

    Args:
        config: The run.
        task: Its task.

    Raises:
        ExperimentError: It has fewer or more, or cannot be cut into the parts.
    """
    least = task.least_batch
    for key in ("batch_size", "evaluate_samples", "analysis_samples"):
        given = getattr(config, key) if key != "analysis_samples" or config.analysis else None
        if given is not None and given < least:
            raise ExperimentError(
                f"{key}: got {given}, but the loss of {config.task.component.name} compares the samples of a batch;"
                f" allowed are at least {least}"
            )
    if config.accumulate is not None and config.accumulate > config.batch_size:
        raise ExperimentError(
            f"accumulate: got {config.accumulate}, but a batch has {config.batch_size} samples; allowed are at most as"
            " many parts"
        )
    if (config.accumulate or 1) > 1 and task.mean_over == "batch":
        raise ExperimentError(
            f"accumulate: {task.loss_name} is one of a whole batch, and not the mean of its samples'"
            " losses, so that it cannot be computed in parts; allowed is 1"
        )
    samples = length(task.train)
    # With the default batch size, fewer samples are not an error.
    if task.draw is None and config.batch_size > max(samples, Config.model_fields["batch_size"].default):
        raise ExperimentError(
            f"batch_size: got {config.batch_size}, but the task has {samples} training samples; allowed are at most as"
            " many"
        )


def check_events(setup: Setup) -> None:
    """Check that all times are known, and that each agent's gradients need nothing of the others'.

    Args:
        setup: The parts of a run whose strategy is event-driven.

    Raises:
        ExperimentError: They are not, or do.
    """
    config, name = setup.config, setup.config.strategy.name
    acts = f"{name} acts when gradients are finished, each agent at its own time"
    if config.compute is None:
        raise ExperimentError(
            f"compute: {acts}, and needs to know how long they take; give a law, such as"
            " {name: exponential, mean: 20 ms}"
        )
    optimizer = OptimizerTraits.of(config.optimizer.target)
    if optimizer.evaluates or optimizer.derivative_free:
        raise ExperimentError(
            f"optimizer: {acts}, and {config.optimizer.name} evaluates gradients by itself; allowed are optimizers that"
            " step with one gradient"
        )
    if isinstance(setup.task.train, Stored):
        raise ExperimentError(
            f"task: {acts}, and the samples of {config.task.component.name} are read for all agents at once; allowed"
            " are tasks whose data are in memory"
        )
    if (config.accumulate or 1) > 1:
        raise ExperimentError(f"accumulate: {acts}, and computes each gradient in one part; allowed is 1")
    if config.runtime.autocast == "float16":
        raise ExperimentError(
            f"runtime.autocast: {acts}, without the scaling of losses that float16 needs; allowed are bfloat16 and none"
        )
    if setup.attack.lies:
        raise ExperimentError(
            f"attack: {config.attack.name} falsifies messages that all agents send at once, and {acts}; allowed are"
            " label_flip and none"
        )
    if config.network is not None and not config.network.overlap:
        raise ExperimentError(f"network.overlap: {acts}, and computes while it sends; allowed is true")
    if config.bytes is not None:
        raise ExperimentError(
            f"bytes: {acts}, so that what it sends in a step is not known in advance; give steps, epochs or samples"
        )


def check_partition(parts: Any, name: str, num_agents: int, num_samples: int) -> list[np.ndarray]:
    """Check the result of a partition, since a user's may return anything.

    Args:
        parts: The result.
        name: Its name.
        num_agents: K.
        num_samples: Samples of the task.

    Returns:
        Indices of the samples of each agent.

    Raises:
        ExperimentError: It does not have this form.
    """
    try:
        arrays = [np.asarray(part) for part in parts]
    except (TypeError, ValueError):
        arrays = []
    if len(arrays) != num_agents:
        raise ExperimentError(f"task.partition: {name} must return {num_agents} index arrays, one per agent")
    for agent, part in enumerate(arrays):
        if part.ndim != 1 or part.dtype.kind not in "iu":
            raise ExperimentError(f"task.partition: {name} gives agent {agent} no index array [n] of integers")
        if len(part) == 0 or part.min() < 0 or part.max() >= num_samples:
            raise ExperimentError(
                f"task.partition: {name} gives agent {agent} {len(part)} indices; allowed are one or more, from 0 to"
                f" {num_samples - 1}"
            )
    return arrays


def check_size(config: Config, task: Task, num_agents: int, parameters: int, remembered: int = 0) -> None:
    """Check that the state of all agents and their batches fit in memory.

    Args:
        config: The run.
        task: Its task.
        num_agents: K.
        parameters: P.
        remembered: Bytes of an agent's optimizer state and averages.

    Raises:
        ExperimentError: They do not fit.
    """
    samples = length(task.train)
    check_memory(
        config.runtime,
        replicas=config.replicas,
        agents=num_agents,
        parameters=parameters,
        remembered=remembered,
        batch=batch_bytes(config, task),
        held=8 * samples if task.draw is None and not config.task.partition.is_own else 0,
    )
