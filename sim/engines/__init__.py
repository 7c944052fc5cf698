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

_LOOPED_AGENTS = 4
"""The loop is tried on so few agents; its cost is proportional to their number."""

_BATCHED_AGENTS = 256
"""The others are tried on at most so many: beyond, their cost is proportional, too."""

_TOLERANCE = {torch.float32: 2e-2, torch.float64: 1e-6}
"""How far a gradient may be from the loop's, relative to its norm: at a kink of ReLU a unit may fall on either side."""


def make_engine(
    name: EngineName, model: nn.Module, task: Task, state: StackedState, batch_size: int
) -> tuple[Engine, str]:
    """Build the engine asked for, or the one that is fastest for this model, state and device.

    A model whose every layer has a stacked form is stacked or looped, any other is mapped or looped: whichever
    takes less processor time (wall time on a GPU) in a trial on data of the real shapes. A batched engine is
    taken only if its losses, gradients and buffers in the trial are those of the loop, which calls the model as
    it is.

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
    if name == "loop":
        return LoopEngine(model, task, state, sample), "as asked"
    expected = _Trial(LoopEngine, model, task, min(state.num_agents, _LOOPED_AGENTS), batch_size)
    reasons = []
    for candidate in ("stacked", "vectorized") if name == "auto" else (name,):
        try:
            trial = _Trial(ENGINES[candidate], model, task, min(state.num_agents, _BATCHED_AGENTS), batch_size)
            trial.check(expected)
        except Exception as error:  # whatever a model of the user's own does where it is not called as usual
            reasons.append(f"not {candidate}: {(str(error) or type(error).__name__).splitlines()[0]}")
            continue
        if name != "auto":
            return ENGINES[name](model, task, state, sample), "as asked"
        batched, loop = trial.seconds * state.num_agents, expected.seconds * state.num_agents
        reasons.append(f"{candidate} {1e3 * batched:.2f} ms, loop {1e3 * loop:.2f} ms a step")
        chosen = ENGINES[candidate] if batched <= loop else LoopEngine
        return chosen(model, task, state, sample), "; ".join(reasons)
    if name != "auto":
        raise ValueError(reasons[0].partition(": ")[2])
    return LoopEngine(model, task, state, sample), "; ".join(reasons)


class _Trial:
    """Some passes of an engine on a state of its own: the seconds an agent, and what came out."""

    def __init__(
        self,
        kind: Callable[[nn.Module, Task, StackedState, Tensor], Engine],
        model: nn.Module,
        task: Task,
        num_agents: int,
        batch_size: int,
    ) -> None:
        data = task.train
        device, dtype = data[0].device, next(model.parameters()).dtype
        self.state = StackedState(model, num_agents, device, dtype)
        self.state.fill(slice(None), model)
        # Neighbouring agents differ, so that one's values taken for another's would be seen.
        shift = torch.arange(num_agents, device=device)[:, None] % 8
        self.state.parameters.mul_(1 + 0.01 * shift).add_(0.001 * shift)
        engine = kind(model, task, self.state, data[0][:2])
        picks = torch.arange(num_agents * batch_size, device=device).view(num_agents, batch_size) % len(data[0])
        batch = tuple(t[picks] for t in data)
        keys = torch.arange(num_agents, device=device)
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        times = []
        for _ in range(4):
            start = clock()
            self.losses = engine.gradients(batch, keys)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock() - start)
        self.seconds = min(times[1:]) / num_agents

    def check(self, expected: "_Trial") -> None:
        """Raise a ValueError if the results for the first agents are not the expected ones."""
        tolerance = _TOLERANCE[self.state.parameters.dtype]
        pairs = {"loss": (self.losses, expected.losses), "gradient": (self.state.gradients, expected.state.gradients)}
        pairs |= {f"buffer {name}": (b, expected.state.buffers[name]) for name, b in self.state.buffers.items()}
        for name, (found, wanted) in pairs.items():
            wanted = wanted.double()
            difference = (found[: len(wanted)].double() - wanted).norm()
            if wanted.isfinite().all() and not difference <= tolerance * wanted.norm():
                raise ValueError(f"the {name} differs from the loop's by {float(difference):.3g}")
