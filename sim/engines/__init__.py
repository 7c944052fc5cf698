"""Engines: how the agents' forward and backward passes are executed; the results do not depend on the engine."""

import logging
import time
from collections.abc import Hashable
from functools import partial
from typing import Literal

import torch
from torch import nn

from basinet.sim.agents.state import StackedState
from basinet.sim.data.rows import length, take
from basinet.sim.engines.divided import DividedEngine
from basinet.sim.engines.engine import Engine, EngineKind
from basinet.sim.engines.fallback import FallbackEngine
from basinet.sim.engines.graphed import GraphedEngine
from basinet.sim.engines.loop import LoopEngine
from basinet.sim.engines.stacked import StackedEngine
from basinet.sim.engines.vectorized import VectorizedEngine
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.tasks.task import Batch, Task

__all__ = ["ENGINES", "Batch", "Choice", "Engine", "EngineName", "Verb", "make_engine"]

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "stacked", "vectorized", "loop"]

Verb = Literal["gradients", "losses"]

Choice = tuple[EngineKind, str, float]
"""A kind of engine, why it was chosen, and the seconds per step, which are 0 if not timed."""

ENGINES: dict[str, EngineKind] = {
    "stacked": StackedEngine,
    "vectorized": VectorizedEngine,
    "loop": LoopEngine,
}

_LOOPED_AGENTS = 4
"""Number of agents the loop is timed on; its cost is proportional to their number."""

_BATCHED_AGENTS = 256
"""Largest number of agents the other engines are timed on: beyond it, their cost is proportional, too."""

_TRIAL_SECONDS = 0.3
"""Time limit of a trial in seconds."""

_WORTH_THREADS = 0.02
"""Seconds per step from which a second thread pays off."""

_TOLERANCE = {torch.bfloat16: 0.2, torch.float16: 0.1, torch.float32: 2e-2, torch.float64: 1e-6}
"""Largest relative deviation from the loop's gradient: at a kink of ReLU, a unit may fall on either side."""


def make_engine(
    name: EngineName,
    model: nn.Module,
    task: Task,
    state: StackedState,
    batch_size: int,
    threads: int = 1,
    verb: Verb = "gradients",
    choices: dict[Hashable, Choice] | None = None,
) -> tuple[Engine, str, int]:
    """Build the named engine, or the fastest one for this model, state and device.

    "auto" compares the loop with the stacked engine if every layer of the model has a stacked form, otherwise with the
    vectorized one: it takes the one with less processor time (wall time on a GPU) in a trial on data of the real
    shapes. A batched engine is taken only if its losses, gradients and buffers in the trial equal those of the loop,
    which calls the model as it is. Batches of other shapes that it cannot run are left to the loop.

    Args:
        name: An engine's name, or "auto".
        model: The model of one agent.
        task: Supplies loss and data.
        state: The agents' state.
        batch_size: Samples per agent and step.
        threads: How many threads may be used; their number does not change the results.
        verb: What the steps call, and so the trial: "gradients", or "losses" only, which then need not be
            differentiable.
        choices: Choices made before for this model and task, which are taken again; new ones are added.

    Returns:
        The engine, why it was chosen, and the number of threads that pay off.

    Raises:
        ValueError: The named engine cannot run this model; the message says why.
    """
    timed = name == "auto" or threads > 1 or state.parameters.device.type == "cuda"
    choices = {} if choices is None else choices
    tensors = state.parameters
    case = (name, state.num_agents, tensors.dtype, tensors.device, state.autocast, batch_size, verb, timed)
    if case not in choices:
        choices[case] = _choose(name, model, task, state, batch_size, verb, timed=timed)
    kind, why, seconds = choices[case]
    if kind is not LoopEngine:
        kind = partial(FallbackEngine, kind)
    engine: Engine = kind(model, task, state)
    if seconds < _WORTH_THREADS or state.parameters.device.type != "cpu":
        threads = 1
    shares = min(threads, state.num_agents // engine.grain) if engine.grain else 1
    if shares > 1:
        engine = DividedEngine(kind, model, task, state, shares, engine.grain)
        why += f"; {shares} threads"
    logger.info("engine %s: %s", engine.name, why)
    return engine, why, threads


def _choose(
    name: EngineName, model: nn.Module, task: Task, state: StackedState, batch_size: int, verb: Verb, *, timed: bool
) -> Choice:
    """Choose the kind of engine."""
    if name == "loop" and not timed:
        return LoopEngine, "as asked", 0.0

    def trial(kind: EngineKind, most_agents: int) -> _Trial:
        return _Trial(kind, model, task, state, min(state.num_agents, most_agents), batch_size, verb, timed=timed)

    expected = trial(LoopEngine, _LOOPED_AGENTS)
    able: list[tuple[float, str, EngineKind]] = []
    if name in ("auto", "loop"):
        able.append((expected.seconds, "loop", LoopEngine))
    reasons = []
    for candidate in {"auto": ("stacked", "vectorized"), "loop": ()}.get(name, (name,)):
        try:
            seconds = trial(ENGINES[candidate], _BATCHED_AGENTS).checked(expected)
        except Exception as error:  # the user's model may raise anything when it is called in an unusual way
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
            except Exception as error:  # anything may be raised by what cannot be recorded
                reasons.append(f"no CUDA graph of {label}: {first_line(error)}")
    seconds, _, kind = min(able, key=lambda choice: choice[0])
    times = [f"{label} {1e3 * seconds * state.num_agents:.2f} ms" for seconds, label, _ in reversed(able)]
    reasons.append("as asked" if len(able) == 1 and name != "auto" else f"{', '.join(times)} a step")
    return kind, "; ".join(reasons), seconds * state.num_agents


def _recorded(kind: EngineKind) -> EngineKind:
    return lambda model, task, state: GraphedEngine(kind(model, task, state), state)


class _Trial:
    """Some passes of an engine on a state of its own: seconds per agent, and the results of the first pass."""

    def __init__(
        self,
        kind: EngineKind,
        model: nn.Module,
        task: Task,
        like: StackedState,
        num_agents: int,
        batch_size: int,
        verb: Verb,
        *,
        timed: bool,
    ) -> None:
        device, dtype = like.parameters.device, like.parameters.dtype
        state = StackedState(model, num_agents, device, dtype, like.autocast)
        state.fill(slice(None), model)
        # Neighbouring agents differ, so that swapped values would be noticed.
        shift = torch.arange(num_agents, device=device)[:, None] % 8
        state.parameters.mul_(1 + 0.01 * shift).add_(0.001 * shift)
        run = getattr(kind(model, task, state), verb)
        picks = torch.arange(num_agents * batch_size, device=device).view(num_agents, batch_size) % length(task.train)
        batch = take(task.train, picks)
        keys = torch.arange(num_agents, device=device)
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        times: list[float] = []
        # The first pass warms up; a slow one is repeated less.
        while not times or (timed and (len(times) < 2 or (len(times) < 4 and sum(times) < _TRIAL_SECONDS))):
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
        self.seconds = min(times[1:], default=0.0) / num_agents
        self.tolerance = _TOLERANCE[like.autocast or dtype]

    def checked(self, expected: "_Trial") -> float:
        """Return the seconds per agent; raise a ValueError if the first agents' results are not the expected ones."""
        for name, wanted in expected.results.items():
            difference = (self.results[name] - wanted).norm()
            if wanted.isfinite().all() and not difference <= self.tolerance * wanted.norm():
                raise ValueError(f"the {name} differs from the loop's by {float(difference):.3g}")
        return self.seconds
