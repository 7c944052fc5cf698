"""Whether one process would be faster than several workers, measured before any is started."""

import time
from collections.abc import Sequence

import torch

from basinet.sim.data.rows import take
from basinet.sim.models.modules import move_model
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.runtimes.runtime import Seat
from basinet.sim.setup.setup import Setup

__all__ = ["alone_ahead"]

_EXCHANGE_SECONDS = 5e-4
"""About the least time in which two workers on processors exchange rows."""

_LONGEST = 0.1
"""Seconds of the passes of all agents, one by one, from which a step is certainly worth sharing."""

_STEPS, _REPEATS = 5, 3


def alone_ahead(setup: Setup, seats: Sequence[Seat]) -> str | None:
    """Say that one process would be faster than the workers of a run that exchange rows in each step, if so.

    Args:
        setup: The parts of the run.
        seats: Where its workers would be executed.

    Returns:
        A sentence; None if several workers may pay off.
    """
    on_processors = all(seat.device == "cpu" for seat in seats)
    if len(seats) < 2 or not on_processors or setup.config.replicas * setup.num_agents * _pass(setup) > _LONGEST:
        return None
    step = _step(setup)
    if step * (1 - 1 / len(seats)) > _EXCHANGE_SECONDS:
        return None
    return (
        f"one process takes about {1e3 * step:.2g} ms for a step, and workers about {1e3 * _EXCHANGE_SECONDS:g} ms to"
        f" exchange rows: it would be faster than {len(seats)} of them; give runtime.name=inline"
    )


def _pass(setup: Setup) -> float:
    """Return the seconds of the gradient of one agent's batch."""
    batch_size = setup.config.batch_size // (setup.config.accumulate or 1)
    model, batch = move_model(setup.template(), "cpu", setup.dtype), take(setup.task.train, slice(0, batch_size))
    least = float("inf")
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        torch.autograd.backward(setup.task.objective(model, batch))
        least = min(least, time.perf_counter() - begin)
    return least


def _step(setup: Setup) -> float:
    """Return the seconds of a step of all agents in this process."""
    least = float("inf")
    with InlineTeam(setup, setup.config.runtime.engine) as team:
        for repeat in range(_REPEATS + 1):
            begin = time.perf_counter()
            team.advance((repeat + 1) * _STEPS)
            least = min(least, (time.perf_counter() - begin) / _STEPS)
    return least
