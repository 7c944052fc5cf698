"""The inline runtime: one worker that hosts all agents, in this process."""

import threading
from collections.abc import Callable
from typing import Any

import torch

from basinet.sim.agents.worker import Worker
from basinet.sim.engines import EngineName
from basinet.sim.runtimes.runtime import Runtime
from basinet.sim.runtimes.team import Team
from basinet.sim.setup.setup import Setup

__all__ = ["Inline", "InlineTeam"]


class InlineTeam(Team):
    """One worker that hosts all agents, in this process.

    Args:
        setup: The parts of the run.
        engine: Name of the engine, or "auto".
    """

    def __init__(self, setup: Setup, engine: EngineName) -> None:
        self.threads = torch.get_num_threads()
        try:
            self.placement = setup.placement()
            self.worker = Worker(setup, self.placement, engine)
        except BaseException:
            torch.set_num_threads(self.threads)
            raise

    def __exit__(self, *_: object) -> None:
        self.worker.close()
        torch.set_num_threads(self.threads)

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(self.worker, method)(*arguments)]


class Inline(Runtime):
    """One worker, in this process."""

    unused = (*Runtime.unused, "shares")

    def team(
        self, setup: Setup, engine: EngineName, stop: threading.Event, waiting: Callable[[str], None]
    ) -> InlineTeam:
        """Host all agents in this process."""
        return InlineTeam(setup, engine)
