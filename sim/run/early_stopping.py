"""Early stopping: whether a metric still improves, from the evaluations alone."""

import math
from collections.abc import Collection, Sequence
from itertools import groupby

from basinet.sim.experiment.training import StopPart
from basinet.sim.run.quantity import Direction
from basinet.sim.run.records import Row

__all__ = ["EarlyStop", "mean_metrics"]


def mean_metrics(rows: Sequence[Row], left_out: Collection[int] = ()) -> dict[str, float]:
    """Average the measurements of an evaluation over the replicas.

    Args:
        rows: One for each replica.
        left_out: Replicas that do not count.

    Returns:
        The mean of each metric that all of these replicas have.
    """
    counted = sorted((row for row in rows if row["replica"] not in left_out), key=lambda row: int(row["replica"]))
    names = [name for name in counted[0] if name not in ("step", "replica")] if counted else []
    return {
        name: math.fsum(row[name] for row in counted) / len(counted)
        for name in names
        if all(name in row for row in counted)
    }


class EarlyStop:
    """Counts the evaluations since a metric has last improved.

    Args:
        asked: The metric, and how long it may stall.
        direction: Which values of the metric are better; smaller ones if neither is.

    Attributes:
        best_step: Step of the best evaluation; None before the first.
    """

    def __init__(self, asked: StopPart, direction: Direction | None) -> None:
        self._asked = asked
        self._sign = -1.0 if direction == "larger" else 1.0
        self.restart([])

    def restart(self, rows: Sequence[Row]) -> None:
        """Begin with the evaluations of a run so far.

        Args:
            rows: Measurements in the order taken.
        """
        self.best_step: int | None = None
        self._best, self._stalled = math.inf, 0
        for _, same in groupby((row for row in rows if "agent" not in row), key=lambda row: row["step"]):
            self.add(list(same))

    def add(self, rows: Sequence[Row]) -> None:
        """Add an evaluation.

        Args:
            rows: Measurements of the replicas that have not diverged; none if all have.
        """
        if not rows:
            return
        value = self._sign * mean_metrics(rows).get(self._asked.metric, math.inf)
        if value < self._best - self._asked.min_delta:
            self._best, self.best_step, self._stalled = value, int(rows[0]["step"]), 0
        else:
            self._stalled += 1

    @property
    def reason(self) -> str | None:
        """Why the run ends, in words; None if it goes on."""
        if self._stalled < self._asked.patience:
            return None
        least = f" by more than {self._asked.min_delta:g}" if self._asked.min_delta else ""
        return (
            f"{self._asked.metric} has not improved{least} for {self._stalled} evaluations on the"
            f" {self._sign * self._best:.4g} of step {self.best_step}"
        )
