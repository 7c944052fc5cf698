"""The workers of a run, as seen by the process that starts them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import join_rows
from basinet.sim.run.interruptions import WorkStopped
from basinet.sim.run.records import Row
from basinet.sim.setup.setup import Setup

__all__ = ["TIMEOUT", "Analysis", "RankLostError", "Stopped", "Team", "WorkerLost"]

Analysis = Callable[[Setup, dict[str, Any], int, int, int], list[Row]]
"""Measures a replica from the state of its rows: called with the setup, the state, the replica's number, the worker's
rank and the number of workers. All workers call it alike and share the work; each returns all rows. A row with the key
`table` belongs to the table of that name; one with the key `failed` names a measure that could not be taken, with its
`reason` and `traceback`; one with the key `unfinished` names a measure that was not finished when the work was to stop;
all others belong to the metrics."""

TIMEOUT = timedelta(minutes=10)
"""How long a worker waits for rows of another one."""


class Stopped(Exception):
    """A run was asked to stop before its workers had started, or while they analysed it."""


class WorkerLost(Exception):
    """A worker has died, through no mistake in the run; the message says which, and why as far as is known."""


class RankLostError(RuntimeError):
    """A rank has died or cannot be reached, so that the others cannot continue together, but begin again."""


class Team(ABC):
    """All workers of a run; a context manager that releases them.

    All workers are called alike, and their results are combined here.

    Attributes:
        placement: Which worker hosts which rows.
    """

    placement: Placement

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Release the workers."""

    @abstractmethod
    def _call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every worker; return the results by rank."""

    def log_to(self, folder: Path) -> None:  # noqa: B027 - a worker in this process prints as it does
        """Let workers in processes of their own write what they print into files, worker-RANK.log.

        Args:
            folder: The folder of the logs.
        """

    def collect_logs(self) -> None:  # noqa: B027
        """Fetch what workers have printed on machines from which the folder of the logs is not seen."""

    def advance(self, until: int) -> None:
        """Advance every worker to a step.

        Args:
            until: The step.
        """
        self._call("advance", until)

    def measure(self) -> tuple[list[Row], dict[int, int]]:
        """Measure all replicas, shared among the workers.

        Returns:
            See `Worker.measure`.

        Raises:
            WorkStopped: The workers were to stop before the evaluations had ended.
        """
        rows: list[Row] = []
        diverged: dict[int, int] = {}
        answers = self._call("measure")
        if None in answers:
            raise WorkStopped
        for part, found in answers:
            rows += part
            for replica, step in found.items():
                diverged[replica] = min(step, diverged.get(replica, step))
        return sorted(rows, key=lambda row: (int(row["replica"]), int(row.get("agent", -1)))), diverged

    def usage(self) -> list[dict[str, Any]]:
        """Read what every worker uses.

        Returns:
            The values of `Worker.usage`, by rank.
        """
        return self._call("usage")

    def points(self) -> tuple[Tensor, Tensor]:
        """Collect the centroids and agents.

        Returns:
            As `Worker.points`, for all rows.
        """
        centroids, agents = zip(*self._call("points"), strict=True)
        return torch.cat(centroids), self.placement.join(agents) if any(map(len, agents)) else agents[0]

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica, with its sums shared among the workers.

        Args:
            analysis: The analysis.
            state: The state of the replica's rows.
            replica: The replica's number.

        Returns:
            The rows of the analysis, from the first worker.

        Raises:
            Stopped: The run was asked to stop, and the workers cannot be told.
        """
        found: list[Row] = self._call("analyze", analysis, state, replica)[0]
        return found

    def state(self) -> dict[str, Any]:
        """Collect the state of all rows.

        Returns:
            Nested plain values and tensors.
        """
        state: dict[str, Any] = join_rows(self._call("state"), self.placement)
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Restore the state of all rows.

        Args:
            state: A state returned by `state`.
        """
        self._call("load", state)

    def engine_choice(self) -> str:
        """Return the engine in use.

        Returns:
            Its name, and why it was chosen, from the first worker.
        """
        return str(self._call("engine_choice")[0])
