"""Engines: how the agents' forward and backward passes are executed. Same results whichever runs."""

import logging
import time
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from basinet.sim.engines.loop import LoopEngine
from basinet.sim.engines.stacked import StackedEngine
from basinet.sim.engines.vectorized import VectorizedEngine
from basinet.sim.state import StackedState
from basinet.sim.tasks.task import Batch, Task

__all__ = ["ENGINES", "Engine", "EngineName", "make_engine"]

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "stacked", "vectorized", "loop"]


class Engine(Protocol):
    """Computes the gradients of all agents of a block."""

    name: str
    needs_keys: bool

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses [N]."""


ENGINES: dict[str, Callable[[nn.Module, Task, StackedState, Tensor], Engine]] = {
    "stacked": StackedEngine,
    "vectorized": VectorizedEngine,
    "loop": LoopEngine,
}

_TRIAL_AGENTS = 4
"""The loop is timed on so few agents; its cost is proportional to their number."""


def make_engine(
    name: EngineName, model: nn.Module, task: Task, state: StackedState, batch_size: int
) -> tuple[Engine, str]:
    """Build the engine asked for, or the one that is fastest for this model, state and device.

    A model whose every layer has a stacked form is stacked or looped, any other is mapped or looped: whichever
    takes less processor time (wall time on a GPU) in a trial on data of the real shapes.

    Args:
        name: An engine's name, or "auto".
        model: The model of one agent.
        task: Gives loss and data.
        state: The agents' state.
        batch_size: Samples an agent and step.

    Returns:
        The engine, and why it was chosen.

    Raises:
        ValueError: The engine asked for cannot run this model; the message says why.
    """
    engine, why = _choose(name, model, task, state, batch_size)
    logger.info("engine %s: %s", engine.name, why)
    return engine, why


def _choose(name: EngineName, model: nn.Module, task: Task, state: StackedState, batch_size: int) -> tuple[Engine, str]:
    sample = task.train[0][:2]
    if name != "auto":
        return ENGINES[name](model, task, state, sample), "as asked"
    reasons = []
    batched: Engine | None = None
    for candidate in ("stacked", "vectorized"):
        try:
            batched = ENGINES[candidate](model, task, state, sample)
            trial = _trial_time(ENGINES[candidate], model, task, state.num_agents, batch_size)
            break
        except (ValueError, RuntimeError, NotImplementedError) as error:
            batched = None
            reasons.append(f"not {candidate}: {str(error).splitlines()[0]}")
    if batched is None:
        return LoopEngine(model, task, state, sample), "; ".join(reasons)
    agents = min(state.num_agents, _TRIAL_AGENTS)
    loop = _trial_time(LoopEngine, model, task, agents, batch_size) * state.num_agents / agents
    times = f"{batched.name} {1e3 * trial:.2f} ms, loop {1e3 * loop:.2f} ms a step"
    why = "; ".join([*reasons, times])
    return (batched if trial <= loop else LoopEngine(model, task, state, sample)), why


def _trial_time(
    engine: Callable[[nn.Module, Task, StackedState, Tensor], Engine],
    model: nn.Module,
    task: Task,
    num_agents: int,
    batch_size: int,
) -> float:
    """Time one pass, in seconds, on a state of its own: the best of three after a warm-up."""
    data = task.train
    device, dtype = data[0].device, next(model.parameters()).dtype
    state = StackedState(model, num_agents, device, dtype)
    state.fill(slice(None), model)
    runner = engine(model, task, state, data[0][:2])
    picks = torch.arange(num_agents * batch_size, device=device).view(num_agents, batch_size) % len(data[0])
    batch = tuple(t[picks] for t in data)
    keys = torch.arange(num_agents, device=device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times = []
    for _ in range(4):
        start = clock()
        runner.gradients(batch, keys)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - start)
    return min(times[1:])
