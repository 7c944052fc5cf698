"""What a runtime is: it says who the workers of a run are, how they are started, and what they have."""

import importlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch

from basinet.sim.engines import EngineName
from basinet.sim.experiment.config import Config, RuntimePart
from basinet.sim.runtimes import RUNTIMES
from basinet.sim.runtimes.team import Team
from basinet.sim.setup.setup import Setup

__all__ = ["Runtime", "runtime_of", "runtimes_of"]

T = TypeVar("T")


class Runtime(ABC):
    """How a run is executed.

    Args:
        part: What the run's configuration says of it.

    Attributes:
        on_ranks: Whether the workers are processes that have been started together, all of which carry out the
            experiment.
    """

    on_ranks = False

    def __init__(self, part: RuntimePart) -> None:
        self.part = part

    @abstractmethod
    def team(self, setup: Setup, engine: EngineName, stop: threading.Event, waiting: Callable[[str], None]) -> Team:
        """Start the workers of a run.

        Args:
            setup: The parts of the run.
            engine: Name of the engine, or "auto".
            stop: Is set when the run shall stop, which may be before its workers are there.
            waiting: Is told what they wait for.

        Returns:
            The workers.
        """

    @property
    def workers(self) -> int:
        """How many workers share the agents of a run."""
        return 1

    @property
    def workers_here(self) -> int | None:
        """How many of them are on this machine, and have its memory and GPUs; None where that is not known."""
        return 1

    def device(self) -> torch.device:
        """Choose the device of a worker.

        Returns:
            What the configuration names; of "auto" a GPU if torch sees one that this worker may use. Of several GPUs, a
            process that torchrun has started takes that of its `LOCAL_RANK`.
        """
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(chosen if self.part.device == "auto" else self.part.device)
        if device == torch.device("cuda") and "LOCAL_RANK" in os.environ:
            return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % max(1, torch.cuda.device_count()))
        return device

    def threads(self) -> int:
        """Find how many threads a worker may use.

        Returns:
            What the configuration says; otherwise the processors that this process may use, as its affinity and
            `OMP_NUM_THREADS` say, shared with the other workers on the machine.
        """
        if self.part.threads is not None:
            return self.part.threads
        limit = os.environ.get("OMP_NUM_THREADS", "")
        processors = max(1, len(os.sched_getaffinity(0)) // (self.workers_here or 1))
        return min(processors, int(limit)) if limit.isdigit() and int(limit) else processors

    def check(self, setup: Setup) -> None:  # noqa: B027 - most have nothing to check
        """Check that the workers can carry out a run, beyond what is checked of every one.

        Args:
            setup: The parts of the run.

        Raises:
            ExperimentError: They cannot.
        """

    @staticmethod
    def carry_out(work: Sequence[Callable[[], None]], parts: Sequence[RuntimePart]) -> None:
        """Carry out runs, one after another, or as many side by side as there is room for.

        Args:
            work: Carries out a run, or several in turn.
            parts: What the configurations of the runs say of their runtime.
        """
        for do in work:
            do()

    @staticmethod
    def together(work: Callable[[], T]) -> T:
        """Do some work once, although every one of several processes calls this.

        Args:
            work: What is done.

        Returns:
            What the work returned, in every process.
        """
        return work()

    @staticmethod
    def follows() -> bool:
        """Return whether another process leads, and speaks for this one."""
        return False


def _class_of(name: str) -> type[Runtime]:
    module, _, attribute = RUNTIMES[name].partition(":")
    found: type[Runtime] = getattr(importlib.import_module(module), attribute)
    return found


def runtime_of(part: RuntimePart) -> Runtime:
    """Make the runtime that a configuration names.

    Args:
        part: What the configuration says of it.

    Returns:
        The runtime.
    """
    return _class_of(part.name)(part)


def runtimes_of(runs: Iterable[Config]) -> dict[str, type[Runtime]]:
    """Find the runtimes of some runs.

    Args:
        runs: Their configurations.

    Returns:
        Their classes by their names.
    """
    return {config.runtime.name: _class_of(config.runtime.name) for config in runs}
