"""Scores of candidates on validation data, and the choice of the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from basinet.analysis.statistics.replica_values import moments, t_interval
from basinet.sim.experiment.tuning.tuned_experiment import Candidate
from basinet.sim.experiment.tuning.tuning_request import is_number
from basinet.sim.run.quantity import Direction

__all__ = ["Draw", "Score", "at_edge", "best_of", "differences"]

Draw = tuple[int, int]
"""What tells independent measurements apart: the seed of a run, and the replica."""


@dataclass(frozen=True)
class Score:
    """What a candidate has reached.

    Attributes:
        values: Its values.
        results: The metric of each replica of each run, by run and draw; None where it diverged, or has no value.
        step: The step at which it was measured, in the run that went furthest.
        steps: The length of that run's schedule.
        ended: Whether it was trained to the end.
    """

    values: Candidate
    results: Mapping[tuple[str, Draw], float | None]
    step: int
    steps: int
    ended: bool

    @property
    def lost(self) -> int:
        """Number of replicas without a value."""
        return sum(value is None for value in self.results.values())

    @property
    def moments(self) -> tuple[float | None, float | None, int]:
        """Mean of the others, its standard error, and the number of their draws."""
        return moments(_by_draw({key: value for key, value in self.results.items() if value is not None}))

    def place(self, direction: Direction) -> tuple[int, float]:
        """Return a key that sorts candidates, the best first: by the number of lost replicas, then by the mean.

        Of candidates that have lost all replicas, those that went further before are better.

        Args:
            direction: Which values are better.

        Returns:
            The key.
        """
        mean = self.moments[0]
        return self.lost, -self.step if mean is None else mean if direction == "smaller" else -mean


def _by_draw(values: Mapping[tuple[str, Draw], float]) -> list[float]:
    """Average over runs with the same draw, such as on several graphs, which are not independent."""
    found: dict[Draw, list[float]] = {}
    for (_, draw), value in values.items():
        found.setdefault(draw, []).append(value)
    return [fmean(several) for several in found.values()]


def best_of(scores: Sequence[Score], direction: Direction, most: int = 1) -> list[int]:
    """Choose the best candidates among those that went furthest.

    Args:
        scores: Scores of candidates.
        direction: Which values are better.
        most: How many.

    Returns:
        Their places, the best first; of equal ones, the earlier.
    """
    ended = [place for place, score in enumerate(scores) if score.ended] or [*range(len(scores))]
    return sorted(ended, key=lambda place: scores[place].place(direction))[:most]


def differences(score: Score, best: Score) -> dict[str, Any]:
    """Compare a candidate with the best, replica by replica.

    Args:
        score: The candidate.
        best: The best one.

    Returns:
        `difference`, the mean of candidate minus best, and `difference_se`, its standard error, over draws that have
        both; and whether it is `indistinguishable`: the 95 % t-interval of the mean has zero in it, and it has not lost
        more replicas. None without an interval, or if the candidate was not trained to the end.
    """
    pairs = {
        key: value - other
        for key, value in score.results.items()
        if value is not None and (other := best.results.get(key)) is not None
    }
    mean, error, count = moments(_by_draw(pairs)) if score.ended else (None, None, 0)
    same = None
    if mean is not None and error is not None:
        low, high = t_interval(mean, error, count)
        same = low <= 0 <= high and score.lost <= best.lost
    return {"difference": mean, "difference_se": error, "indistinguishable": same}


def at_edge(values: Candidate, tried: Mapping[str, Sequence[Any]]) -> dict[str, bool]:
    """Find the keys whose value is the smallest or the largest of those tried.

    Args:
        values: What is best.
        tried: The values tried of each key.

    Returns:
        By key, whether it is the largest; of keys whose values are numbers.
    """
    return {
        key: values[key] == max(several)
        for key, several in tried.items()
        if all(map(is_number, several)) and values[key] in (min(several), max(several))
    }
