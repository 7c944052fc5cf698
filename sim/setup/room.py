"""Estimates of the memory and disk space of a run, checked before anything is built or written."""

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from basinet.sim.agents.placement import Placement
from basinet.sim.data.nests import leaves
from basinet.sim.data.rows import take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import KINDS, Config, RuntimePart
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.faults.kept_rows import rows_kept
from basinet.sim.run.trajectory import trajectory_bytes
from basinet.sim.runtimes.runtime import Seat, runtime_of
from basinet.sim.setup.memory import in_units, memory
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.trainable import trainable
from basinet.sim.tasks import Task

__all__ = [
    "agent_bytes",
    "batch_bytes",
    "bytes_of",
    "check_disk",
    "check_memory",
    "check_room",
    "check_trajectory",
    "parameters_of",
    "state_bytes",
]

_ROW_OF_METRICS = 60
"""Lower bound of the bytes of a line of metrics."""


def parameters_of(config: Config, task: Task) -> int:
    """Count the parameters of a model before it is built, where possible.

    Args:
        config: The run.
        task: Its task.

    Returns:
        The number of trained parameters; 0 for the user's own code.

    Raises:
        ExperimentError: The task does not have what the model needs.
    """
    component = config.model or KINDS["model"].parse(task.model)
    if component.is_own:
        return 0
    arguments = task.model_arguments  # for which data may have to be read
    about, usual = config.task.component, f"such as {task.model}"
    needed = (name for name in component.kind.supplied if component.requires(name))
    if lacking := [name for name in needed if name not in {*arguments, *component.settings, "seed"}]:
        raise ExperimentError(
            f"model: {component.name} needs {' and '.join(lacking)}, which {about.name} does not have; allowed are"
            f" models that do without, {usual}"
        )
    with torch.device("meta"), _Undrawn():
        try:
            made: nn.Module = component.make(**arguments, seed=config.seed)
        except ExperimentError as error:
            count = len(arguments["input_shapes"])
            if count == 1 or about.is_own or component.name == task.model:
                raise
            raise ExperimentError(f"{error}; {about.name} has {count} inputs, for models {usual}") from error
        model = trainable(config, made)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class _Undrawn(TorchFunctionMode):
    """Leaves normal values undrawn: on the meta device, where they do not matter, torch would import its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_):
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def check_memory(
    part: RuntimePart,
    *,
    replicas: int,
    agents: int,
    parameters: int,
    remembered: int = 0,
    batch: int = 0,
    held: int = 0,
) -> None:
    """Raise if a state does not fit in the memory of this machine or its GPU; other machines are not checked.

    Args:
        part: Where the run is executed.
        replicas: R.
        agents: K.
        parameters: P.
        remembered: Bytes of the optimizer's state of an agent.
        batch: Bytes of an agent's batch.
        held: Bytes of the sample indices of a replica's agents, which are on the host.

    Raises:
        ExperimentError: It does not fit.
    """
    runtime = runtime_of(part)
    workers, here = runtime.workers, runtime.workers_here
    if here is None:
        return
    each = _agent_bytes(parameters * getattr(torch, part.dtype).itemsize, remembered, batch)
    wanted = replicas * agents * sum(each.values()) / workers
    device = runtime.device()
    if device.type == "cuda":
        if not torch.cuda.is_available():  # reported elsewhere
            return
        there, where = torch.cuda.get_device_properties(device).total_memory, f"{device} has"
    else:
        wanted = here * wanted + replicas * held
        there, where = memory(), "this process has"
    if wanted > there:
        raise ExperimentError(
            f"replicas: {replicas:,} replicas of {agents:,} agents with {parameters:,} parameters each take"
            f" {in_units(wanted)} of memory or more (parameters, gradients, the optimizer's state and a batch), and"
            f" {where} {in_units(there)}; give fewer replicas or agents, or a smaller model or batch"
        )


def check_room(setups: Iterable[Setup]) -> list[list[Seat]]:
    """Raise if the workers of a run do not fit on their machines or GPUs.

    Args:
        setups: The parts of runs.

    Returns:
        Where the workers of each run will be executed.

    Raises:
        ExperimentError: They do not, or a cluster has no room for them.
    """
    known: dict[str, list[Seat]] = {}  # a cluster is asked once
    found = []
    for setup in setups:
        part = setup.config.runtime
        asked = part.model_dump_json()
        seats = known[asked] if asked in known else known.setdefault(asked, runtime_of(part).seats())
        found.append(seats)
        hosted = _hosted(setup, seats)
        wanted: Counter[Seat] = Counter()
        for seat, rows in zip(seats, hosted, strict=True):
            wanted[seat] += rows * sum(agent_bytes(setup).values())
        for seat, size in wanted.items():
            if size > seat.memory:
                where = seat.machine if seat.device == "cpu" else f"{seat.device} of {seat.machine}"
                raise ExperimentError(
                    f"runtime: the {count_of(seats.count(seat), 'worker')} on {where} would take {in_units(size)} of"
                    " memory or more (parameters, gradients, the optimizer's state and batches), and may use"
                    f" {in_units(seat.memory)}; give fewer replicas or agents, a smaller model or batch, or fewer"
                    " workers per machine, as by a larger runtime.cpus_per_actor"
                )
    return found


def _hosted(setup: Setup, seats: Sequence[Seat]) -> list[int]:
    """Return how many rows each worker of a run hosts."""
    shares = setup.config.runtime.shares if len(seats) > 1 else None
    if shares is not None and len(shares) != len(seats):
        raise ExperimentError(
            f"runtime.shares: got {len(shares)}; allowed is one for each of the {len(seats)} workers of the run"
        )
    rows = setup.config.replicas, setup.num_agents
    placed = Placement.of_groups(*rows, [seat.machine for seat in seats], shares=shares)
    hosted: list[int] = np.bincount(placed.owner, minlength=len(seats)).tolist()
    if not min(hosted):
        raise ExperimentError(
            f"runtime.shares: got {', '.join(f'{share:g}' for share in shares or ())}; allowed are shares that leave an"
            f" agent for each worker: of {math.prod(rows)}, worker {hosted.index(0)} would have none"
        )
    return hosted


def batch_bytes(config: Config, task: Task) -> int:
    """Return the bytes of an agent's batch.

    Args:
        config: The run.
        task: Its task.
    """
    return config.batch_size * sum(t.nbytes for t in leaves(take(task.train, slice(0, 1))))


def agent_bytes(setup: Setup) -> dict[str, int]:
    """Return the bytes that each agent takes on the device of its worker, by what they are.

    Args:
        setup: The parts of the run.
    """
    size = setup.num_parameters * setup.dtype.itemsize
    late = size * rows_kept(setup.faults, setup.strategy(), setup.sequence, setup.push)
    known = _agent_bytes(size, setup.remembered, batch_bytes(setup.config, setup.task))
    return known | ({"late messages": late} if late else {})


def _agent_bytes(row: int, remembered: int, batch: int) -> dict[str, int]:
    return {"parameters": row, "gradients": row, "optimizer": remembered, "batch": batch}


def check_trajectory(setup: Setup) -> None:
    """Raise if a trajectory is larger than allowed.

    Args:
        setup: The parts.

    Raises:
        ExperimentError: It is.
    """
    part, total = setup.config.trajectory, _trajectory_bytes(setup)
    if part is not None and total > part.megabytes * 2**20:
        raise ExperimentError(
            f"trajectory.megabytes: the trajectory would take {math.ceil(total / 2**20)} MiB, and {part.megabytes} are"
            " allowed; raise the limit, or record only the centroid, or evaluate less often"
        )


def check_disk(setups: Mapping[str, Setup], out: Path) -> None:
    """Raise if the disk cannot hold an experiment.

    Args:
        setups: The parts of its runs.
        out: Its folder, which may not exist; what it already holds counts as free space.

    Raises:
        ExperimentError: There is not enough space.
    """
    # A run in progress also has the last checkpoint but one.
    parts = {"checkpoints": max(map(state_bytes, setups.values())), "trajectories": 0, "metrics": 0}
    for setup in setups.values():
        keep = setup.config.keep_every
        kept = 0 if keep is None else math.ceil(setup.num_steps / keep)
        kept += setup.config.stop_early is not None and setup.config.stop_early.keep_best
        parts["checkpoints"] += (1 + kept) * state_bytes(setup)
        parts["trajectories"] += _trajectory_bytes(setup)
        parts["metrics"] += _evaluations(setup) * setup.config.replicas * _ROW_OF_METRICS
    wanted = sum(parts.values())
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    there = shutil.disk_usage(nearest).free
    if wanted > there and nearest == out.absolute():
        there += sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    if wanted > there:
        words = ", ".join(f"{what} {in_units(size)}" for what, size in parts.items() if size)
        raise ExperimentError(
            f"--out: the experiment writes {in_units(wanted)} or more ({words}), and {in_units(there)} are free"
            f" at {out}; keep and evaluate less often, give fewer replicas, or choose another folder"
        )


def state_bytes(setup: Setup) -> int:
    """Estimate the length of a run's checkpoint.

    Args:
        setup: The parts of the run.

    Returns:
        Bytes of the parameters, the optimizer's state and the averages, and of messages that have not arrived.
    """
    known = agent_bytes(setup)
    of_agent = sum(size for what, size in known.items() if what not in ("gradients", "batch"))
    return setup.config.replicas * setup.num_agents * of_agent


def _evaluations(setup: Setup) -> int:
    return 1 + math.ceil(setup.num_steps / setup.evaluate_every)


def _trajectory_bytes(setup: Setup) -> int:
    part = setup.config.trajectory
    if part is None:
        return 0
    return trajectory_bytes(
        evaluations=_evaluations(setup),
        replicas=setup.config.replicas,
        points=1 if part.points == "centroid" else 1 + setup.num_agents,
        parameters=setup.num_parameters,
        itemsize=setup.dtype.itemsize,
    )


def bytes_of(state: Any) -> int:
    """Count the bytes of the tensors in a state.

    Args:
        state: Nested mappings and lists.

    Returns:
        Their sum.
    """
    if isinstance(state, Mapping):
        return sum(map(bytes_of, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(bytes_of, state))
    return state.nbytes if isinstance(state, Tensor) else 0
