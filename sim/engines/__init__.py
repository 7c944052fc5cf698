"""Engines: how the agents' forward and backward passes are executed. Same results whichever runs."""

import logging
import time
from typing import Literal

import torch
from torch import nn

from basinet.sim.agents.state import StackedState
from basinet.sim.engines.divided import DividedEngine
from basinet.sim.engines.engine import Engine, EngineKind
from basinet.sim.engines.graphed import GraphedEngine
from basinet.sim.engines.loop import LoopEngine
from basinet.sim.engines.stacked import StackedEngine
from basinet.sim.engines.vectorized import VectorizedEngine
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.tasks.task import Batch, Task

__all__ = ["ENGINES", "Batch", "Engine", "EngineName", "Verb", "make_engine"]

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "stacked", "vectorized", "loop"]

Verb = Literal["gradients", "losses"]


ENGINES: dict[str, EngineKind] = {
    "stacked": StackedEngine,
    "vectorized": VectorizedEngine,
    "loop": LoopEngine,
}

_LOOPED_AGENTS = 4
"""The loop is tried on so few agents; its cost is proportional to their number."""

_BATCHED_AGENTS = 256
"""The others are tried on at most so many: beyond, their cost is proportional, too."""

_TRIAL_SECONDS = 0.3
"""A trial ends after so many."""

_WORTH_THREADS = 0.02
"""Seconds that a step must take for a second thread to be worth its waiting."""

_TOLERANCE = {torch.bfloat16: 0.2, torch.float32: 2e-2, torch.float64: 1e-6}
"""How far a gradient may be from the loop's, relative to its norm: at a kink of ReLU a unit may fall on either side."""


def make_engine(
    name: EngineName,
    model: nn.Module,
    task: Task,
    state: StackedState,
    batch_size: int,
    threads: int = 1,
    verb: Verb = "gradients",
) -> tuple[Engine, str, int]:
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
        threads: How many threads may be used; their number does not change what an agent computes.
        verb: What the steps ask of it, and the trial tries: "gradients", or "losses" alone, which then need not be
            differentiable.

    Returns:
        The engine, why it was chosen, and how many threads its work is worth.

    Raises:
        ValueError: The engine asked for cannot run this model; the message says why.
    """
    kind, why, seconds = _choose(name, model, task, state, batch_size, verb)
    engine = kind(model, task, state, task.train[0][:2])
    if seconds < _WORTH_THREADS or state.parameters.device.type != "cpu":
        threads = 1
    shares = min(threads, state.num_agents // engine.grain) if engine.grain else 1
    if shares > 1:
        engine = DividedEngine(kind, model, task, state, shares, engine.grain)
        why += f"; {shares} threads"
    logger.info("engine %s: %s", engine.name, why)
    return engine, why, threads


def _choose(
    name: EngineName, model: nn.Module, task: Task, state: StackedState, batch_size: int, verb: Verb
) -> tuple[EngineKind, str, float]:
    """Choose the kind of engine; return why, and the seconds that a step takes."""

    def trial(kind: EngineKind, most_agents: int) -> _Trial:
        return _Trial(kind, model, task, state, min(state.num_agents, most_agents), batch_size, verb)

    expected = trial(LoopEngine, _LOOPED_AGENTS)
    able: list[tuple[float, str, EngineKind]] = []
    if name in ("auto", "loop"):
        able.append((expected.seconds, "loop", LoopEngine))
    reasons = []
    for candidate in {"auto": ("stacked", "vectorized"), "loop": ()}.get(name, (name,)):
        try:
            seconds = trial(ENGINES[candidate], _BATCHED_AGENTS).checked(expected)
        except Exception as error:  # whatever a model of the user's own does where it is not called as usual
            if name != "auto":
                raise ValueError(first_line(error)) from error
            reasons.append(f"not {candidate}: {first_line(error)}")
        else:
            able.append((seconds, candidate, ENGINES[candidate]))
            break
    if state.parameters.device.type == "cuda":
        for _, label, kind in tuple(able):
            graph = _recorded(kind)
            try:
                able.append((trial(graph, _BATCHED_AGENTS).checked(expected), f"{label} as a CUDA graph", graph))
            except Exception as error:  # whatever cannot be recorded
                reasons.append(f"no CUDA graph of {label}: {first_line(error)}")
    seconds, _, kind = min(able, key=lambda choice: choice[0])
    times = [f"{label} {1e3 * seconds * state.num_agents:.2f} ms" for seconds, label, _ in reversed(able)]
    reasons.append("as asked" if len(able) == 1 and name != "auto" else f"{', '.join(times)} a step")
    return kind, "; ".join(reasons), seconds * state.num_agents


def _recorded(kind: EngineKind) -> EngineKind:
    return lambda model, task, state, sample: GraphedEngine(kind(model, task, state, sample), state)


class _Trial:
    """Some passes of an engine on a state of its own: the seconds an agent, and what came out of the first."""

    def __init__(
        self,
        kind: EngineKind,
        model: nn.Module,
        task: Task,
        like: StackedState,
        num_agents: int,
        batch_size: int,
        verb: Verb = "gradients",
    ) -> None:
        data = task.train
        device, dtype = like.parameters.device, like.parameters.dtype
        state = StackedState(model, num_agents, device, dtype, like.autocast)
        state.fill(slice(None), model)
        # Neighbouring agents differ, so that one's values taken for another's would be seen.
        shift = torch.arange(num_agents, device=device)[:, None] % 8
        state.parameters.mul_(1 + 0.01 * shift).add_(0.001 * shift)
        run = getattr(kind(model, task, state, data[0][:2]), verb)
        picks = torch.arange(num_agents * batch_size, device=device).view(num_agents, batch_size) % len(data[0])
        batch = tuple(t[picks] for t in data)
        keys = torch.arange(num_agents, device=device)
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        times: list[float] = []
        # The first pass warms up; a slow one is not repeated often.
        while len(times) < 2 or (len(times) < 4 and sum(times) < _TRIAL_SECONDS):
            start = clock()
            losses = run(batch, keys)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock() - start)
            if len(times) == 1:
                results = {
                    "loss": losses,
                    "gradient": state.gradients,
                    "parameters after it": state.parameters.detach(),
                }
                results |= {f"buffer {name}": b for name, b in state.buffers.items()}
                self.results = {name: t[:_LOOPED_AGENTS].to(torch.float64, copy=True) for name, t in results.items()}
        self.seconds = min(times[1:]) / num_agents
        self.tolerance = _TOLERANCE[like.autocast or dtype]

    def checked(self, expected: "_Trial") -> float:
        """Return the seconds an agent, or raise a ValueError if the first agents' results are not the expected ones."""
        for name, wanted in expected.results.items():
            difference = (self.results[name] - wanted).norm()
            if wanted.isfinite().all() and not difference <= self.tolerance * wanted.norm():
                raise ValueError(f"the {name} differs from the loop's by {float(difference):.3g}")
        return self.seconds
