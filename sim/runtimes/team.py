"""The workers of a run, as the one who starts them sees them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Self

import torch
from torch import Tensor

from basinet.sim.agents.state import join_rows
from basinet.sim.run.records import Row
from basinet.sim.setup.setup import Setup

__all__ = ["TIMEOUT", "Analysis", "Stopped", "Team"]

Analysis = Callable[[Setup, dict[str, Any], int, int, int], list[Row]]
"""Measures a replica of a run from the state of its rows: takes the setup, the state, the replica's number, the
worker's rank and how many workers there are. They call it alike and share its sums; each returns everything. A row with
the key `table` belongs to the table of that name; one with the key `failed` says of that measure for what `reason` it
could not be taken, with the `traceback`; every other one belongs to the metrics."""

TIMEOUT = timedelta(minutes=10)
"""How long a worker waits for the rows of another one."""


class Stopped(Exception):
    """A run was asked to stop before its workers were there."""


class Team(ABC):
    """All workers of a run; a context manager that lets them go.

    Workers are called alike, and what each of them returns is put together here.
    """

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Let the workers go."""

    @abstractmethod
    def _call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every worker; return what they return, in the order of their rows."""

    def advance(self, until: int) -> None:
        """Let every worker run to the given step.

        Args:
            until: The step.
        """
        self._call("advance", until)

    def measure(self) -> tuple[list[Row], dict[int, int]]:
        """Measure all replicas, each worker its share.

        Returns:
            See `Worker.measure`.
        """
        rows: list[Row] = []
        diverged: dict[int, int] = {}
        for part, found in self._call("measure"):
            rows += part
            for replica, step in found.items():
                diverged[replica] = min(step, diverged.get(replica, step))
        return sorted(rows, key=lambda row: int(row["replica"])), diverged

    def points(self) -> tuple[Tensor, Tensor]:
        """Take down where centroids and agents are, each worker its own.

        Returns:
            See `Worker.points`; all of them.
        """
        centroids, agents = zip(*self._call("points"), strict=True)
        return torch.cat(centroids), torch.cat(agents)

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica, each worker its share of the sums.

        Args:
            analysis: What to do.
            state: The state of the replica's rows.
            replica: Which replica it is.

        Returns:
            What was found, as the first worker says.
        """
        found: list[Row] = self._call("analyze", analysis, state, replica)[0]
        return found

    def state(self) -> dict[str, Any]:
        """Collect the state of all rows.

        Returns:
            Nested plain values and tensors.
        """
        state: dict[str, Any] = join_rows(self._call("state"))
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Restore the state of all rows.

        Args:
            state: What `state` returned.
        """
        self._call("load", state)

    def engine_choice(self) -> str:
        """Look up which engine runs.

        Returns:
            Its name, and why it was chosen, as the first worker says.
        """
        return str(self._call("engine_choice")[0])
