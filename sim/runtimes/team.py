"""The workers of a run, as the one who starts them sees them; and the simplest team: one, in this process."""

from typing import Any, Protocol, Self

import torch

from basinet.sim.engines import EngineName
from basinet.sim.folder import Row
from basinet.sim.placement import Placement
from basinet.sim.setup import Setup
from basinet.sim.worker import Analysis, Worker

__all__ = ["InlineTeam", "Team"]


class Team(Protocol):
    """All workers of a run; a context manager that lets them go."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(self, *_: object) -> None:
        """Let the workers go."""

    def advance(self, until: int) -> None:
        """Let every worker run to the given step."""

    def measure(self) -> tuple[list[Row], dict[int, int]]:
        """Measure all replicas; see `Worker.measure`."""

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica, each worker its share of the sums; see `Worker.analyze`."""

    def state(self) -> dict[str, Any]:
        """Collect the state of all rows."""

    def load(self, state: dict[str, Any]) -> None:
        """Restore the state of all rows."""

    def engine_choice(self) -> str:
        """Tell which engine runs, and why."""


class InlineTeam:
    """One worker that hosts all agents, in this process.

    Args:
        setup: The parts of the run.
        engine: Name of the engine, or "auto".
    """

    def __init__(self, setup: Setup, engine: EngineName) -> None:
        self.threads = torch.get_num_threads()
        try:
            self.worker = Worker(setup, Placement.split(setup.config.replicas, setup.num_agents), engine)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.threads)

    def advance(self, until: int) -> None:
        """Run to the given step.

        Args:
            until: The step.
        """
        self.worker.advance(until)

    def measure(self) -> tuple[list[Row], dict[int, int]]:
        """Measure all replicas.

        Returns:
            See `Worker.measure`.
        """
        return self.worker.measure()

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica.

        Args:
            analysis: What to do.
            state: The state of the replica's rows.
            replica: Which replica it is.

        Returns:
            What was found.
        """
        return self.worker.analyze(analysis, state, replica)

    def state(self) -> dict[str, Any]:
        """Collect the state of all rows.

        Returns:
            Nested plain values and tensors.
        """
        return self.worker.state()

    def load(self, state: dict[str, Any]) -> None:
        """Restore the state of all rows.

        Args:
            state: What `state` returned.
        """
        self.worker.load(state)

    def engine_choice(self) -> str:
        """Tell which engine runs.

        Returns:
            Its name, and why it was chosen.
        """
        return self.worker.engine_choice()
