"""The interface of runtimes: which workers a run has, how they are started, and their resources."""

import importlib
import math
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from basinet.sim.engines import EngineName
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config, RuntimePart
from basinet.sim.runtimes import ON_RANKS, RUNTIMES
from basinet.sim.runtimes.team import Team
from basinet.sim.setup.memory import memory, processors
from basinet.sim.setup.setup import Setup

__all__ = ["Runtime", "Seat", "memory_of", "runtime_of", "runtimes_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class Seat:
    """Where a worker is executed.

    Attributes:
        machine: Name of the machine.
        device: Its device.
        threads: How many threads it may use.
        memory: Bytes that all workers with this device on the machine may use together; infinite if unknown.
    """

    machine: str
    device: str
    threads: int
    memory: float


class Runtime(ABC):
    """How a run is executed.

    Args:
        part: The runtime part of the run's configuration.

    Attributes:
        unused: Keys of the configuration that make no difference to the workers.
    """

    unused: tuple[str, ...] = ("actors", "cpus_per_actor", "gpus_per_actor")

    def __init__(self, part: RuntimePart) -> None:
        self.part = part

    @abstractmethod
    def team(self, setup: Setup, engine: EngineName, stop: threading.Event, waiting: Callable[[str], None]) -> Team:
        """Start the workers of a run.

        Args:
            setup: The parts of the run.
            engine: Name of the engine, or "auto".
            stop: Set when the run is to stop, possibly before its workers have started.
            waiting: Called with what the workers wait for.

        Returns:
            The workers.
        """

    @property
    def on_ranks(self) -> bool:
        """Whether the workers are processes that were started together and all execute the experiment."""
        return self.part.name in ON_RANKS

    @property
    def workers(self) -> int:
        """Number of workers that share the agents of a run."""
        return 1

    @property
    def workers_here(self) -> int | None:
        """Number of workers on this machine, sharing its memory and GPUs; None if unknown."""
        return 1

    @property
    def sharers(self) -> int:
        """Number of workers that share the processors of this process."""
        return self.workers_here or 1

    def device(self) -> torch.device:
        """Return the device of a worker.

        Returns:
            The configured device; for "auto", a GPU if torch sees one that this worker may use. If there are several, a
            process started by torchrun uses the one of its `LOCAL_RANK`.
        """
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(chosen if self.part.device == "auto" else self.part.device)
        if device == torch.device("cuda") and "LOCAL_RANK" in os.environ:
            return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % max(1, torch.cuda.device_count()))
        return device

    def seats(self) -> list[Seat]:
        """Say where workers will be executed, before any is started.

        Returns:
            One for each worker.
        """
        device = self.device()
        return [Seat(socket.gethostname(), str(device), self.threads(), memory_of(device))]

    def threads(self) -> int:
        """Return how many threads a worker may use.

        Returns:
            The configured number; otherwise, the processors that this process may use, shared with other workers, and
            at most `OMP_NUM_THREADS`.
        """
        if self.part.threads is not None:
            return self.part.threads
        limit = os.environ.get("OMP_NUM_THREADS", "")
        share = max(1, processors() // self.sharers)
        return min(share, int(limit)) if limit.isdigit() and int(limit) else share

    def check(self, setup: Setup) -> None:
        """Check that the workers can execute a run, beyond the checks of every run.

        Args:
            setup: The parts of the run.

        Raises:
            ExperimentError: They cannot.
        """
        self.check_env()

    def check_env(self) -> None:
        """Check that the environment that an experiment asks for can be set up for the workers.

        Raises:
            ExperimentError: It cannot, since they are not started here.
        """
        if self.part.env is not None:
            raise ExperimentError(
                f"runtime.env: the workers of runtime.name={self.part.name} have the environment in which they were"
                " started; prepare it before, or give runtime.name=ray"
            )

    @staticmethod
    def carry_out(work: Sequence[Callable[[], None]], parts: Sequence[RuntimePart]) -> None:
        """Execute runs, one after another or as many in parallel as there is room for.

        Args:
            work: Callables that each execute one run, or several in turn.
            parts: The runtime part of the configuration of each run.
        """
        for do in work:
            do()

    @staticmethod
    def together(work: Callable[[], T]) -> T:
        """Do work once when several processes call this.

        Args:
            work: The work.

        Returns:
            Its result, in every process.
        """
        return work()

    @staticmethod
    def follows() -> bool:
        """Return whether another process leads and reports for this one."""
        return False


def memory_of(device: torch.device) -> float:
    """Return how much memory a device has.

    Args:
        device: A device of this machine, though torch may find no such GPU.

    Returns:
        The bytes that this process may use; infinite if unknown.
    """
    if device.type != "cuda":
        return memory()
    return torch.cuda.get_device_properties(device).total_memory if torch.cuda.is_available() else math.inf


def _class_of(name: str) -> type[Runtime]:
    module, _, attribute = RUNTIMES[name].partition(":")
    found: type[Runtime] = getattr(importlib.import_module(module), attribute)
    return found


def runtime_of(part: RuntimePart) -> Runtime:
    """Build the runtime of a configuration.

    Args:
        part: The runtime part of the configuration.

    Returns:
        The runtime.
    """
    return _class_of(part.name)(part)


def runtimes_of(runs: Iterable[Config]) -> dict[str, type[Runtime]]:
    """Collect the runtimes of several runs.

    Args:
        runs: Their configurations.

    Returns:
        The classes by name.
    """
    return {config.runtime.name: _class_of(config.runtime.name) for config in runs}
