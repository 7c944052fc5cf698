"""Explanation of a run before it starts: who hosts what, and what travels between workers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.agents.messages.edges import num_messages
from basinet.sim.agents.placement import Placement
from basinet.sim.data.nests import leaves
from basinet.sim.data.rows import Stored, take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models.modules import move_model, saved_bytes
from basinet.sim.runtimes.runtime import Seat
from basinet.sim.setup.room import agent_bytes
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.spending import rows_in_steps
from basinet.topologies.cuts import crossings

__all__ = ["explained", "in_ranges"]


def explained(setup: Setup, seats: Sequence[Seat]) -> dict[str, Any]:
    """Say who hosts which agents of a run, and what travels.

    Args:
        setup: The parts of the run.
        seats: Where its workers will be executed.

    Returns:
        Plain values: `runtime`; `workers`, for each of which `machine`, `device`, `threads`, `hosts` (agents by
        replica), `sends` and `receives` (rows per combine, on average over a period of the graph), and `memory` (bytes,
        by what they are for); `crossing_rows`, those of all workers, and `crossing_bytes`, if the rows are parameters;
        `largest_pair` of workers, with its rows; `summed`, whether sums over all agents travel, too; and
        `simulated_bytes` that all agents of all replicas send in a step, None if this does not repeat.
    """
    placement = setup.placement([seat.machine for seat in seats])
    pairs = _crossings(setup, placement)
    row = setup.num_parameters * setup.dtype.itemsize
    source, target = np.unravel_index(int(pairs.argmax()), pairs.shape)
    largest = [int(source), int(target), float(pairs[source, target])] if pairs.any() else None
    return {
        "runtime": setup.config.runtime.name,
        "workers": [_worker(setup, placement, rank, seat, pairs, row) for rank, seat in enumerate(seats)],
        "crossing_rows": float(pairs.sum()),
        "crossing_bytes": float(pairs.sum() * row),
        "largest_pair": largest,
        "summed": len(seats) > 1 and _sums(setup),
        "simulated_bytes": _simulated(setup),
    }


def _worker(setup: Setup, placement: Placement, rank: int, seat: Seat, pairs: np.ndarray, row: int) -> dict[str, Any]:
    mine = placement.owner.reshape(placement.replicas, placement.agents) == rank
    hosts = {replica: np.flatnonzero(agents).tolist() for replica, agents in enumerate(mine) if agents.any()}
    count, sent, received = int(mine.sum()), float(pairs[rank].sum()), float(pairs[:, rank].sum())
    memory = {what: size * count for what, size in agent_bytes(setup).items()}
    memory |= {"mixing": count * row if setup.exchanges else 0, "messages": int((sent + received) * row)}
    memory |= {"activations": count * _activations(setup), "data": _data(setup)}
    return {
        "machine": seat.machine,
        "device": seat.device,
        "threads": seat.threads,
        "hosts": hosts,
        "sends": sent,
        "receives": received,
        "memory": memory,
    }


def _crossings(setup: Setup, placement: Placement) -> np.ndarray:
    """Count the rows that each worker sends to each other one in a combine, [workers, workers]."""
    total, known = np.zeros((placement.workers, placement.workers)), dict[bytes, np.ndarray]()
    if not setup.exchanges:
        return total
    for part in placement.owner.reshape(placement.replicas, placement.agents):
        key = part.tobytes()
        if key not in known:
            known[key] = crossings(setup.exchanges, part, placement.workers)
        total += known[key]
    return total / len(setup.exchanges)


def _sums(setup: Setup) -> bool:
    traits = StrategyTraits.of(setup.strategy())
    return traits.averages or not traits.uses_graph


def _simulated(setup: Setup) -> float | None:
    """Return the bytes that the agents of all replicas send in a step, on average."""
    try:
        rows, cycle = rows_in_steps(setup)
    except ExperimentError:  # it does not repeat
        return None
    messages = num_messages(setup)
    of_replica = sum(
        float(np.mean([step.get(kind, 0) for step in rows[cycle:]])) * float(np.mean(counts))
        for kind, counts in messages.items()
        if counts
    )
    return setup.config.replicas * of_replica


def _activations(setup: Setup) -> int:
    """Return the bytes that the backward pass of an agent's batch needs, which engines hold for some or all agents."""
    model = move_model(setup.template(), "cpu", setup.dtype)
    task, size = setup.task, setup.config.batch_size // (setup.config.accumulate or 1)
    return saved_bytes(lambda: task.objective(model, take(task.train, slice(0, size))))


def _data(setup: Setup) -> int:
    """Return the bytes of the samples that are held in memory."""
    parts = (setup.task.train, setup.task.test)
    return sum(tensor.nbytes for part in parts if not isinstance(part, Stored) for tensor in leaves(part))


def in_ranges(numbers: Sequence[int]) -> str:
    """Write ascending numbers shortly.

    Args:
        numbers: The numbers.

    Returns:
        Ranges and single numbers.

    Example:
        >>> in_ranges([0, 1, 2, 5, 7, 8])
        '0–2, 5, 7–8'
    """
    runs = np.split(np.asarray(numbers), np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
