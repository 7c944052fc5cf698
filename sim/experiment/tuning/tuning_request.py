"""What an experiment tunes: keys and their candidate values, and how one of them is chosen."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.config import LENGTHS, Config
from basinet.sim.experiment.grids.named_axes import axis_columns
from basinet.sim.experiment.mistakes import shown

__all__ = ["MANY", "Tuning", "beyond", "is_number"]

MANY = 9
"""Most candidates that are all trained to the end, without successive halving."""

_SETTINGS = ("on", "share", "by", "replicas", "per", "halving")
_NOT_TUNED = (
    *("case", "strategy_keys", "tuned", "validation", "task", "topology", "strategy", "seed", "replicas", "runtime"),
    *LENGTHS,  # all candidates are trained alike
    *("evaluate_every", "evaluate_samples", "metrics", "metrics_on", "keep_every", "escape", "trajectory"),
)
_WITH_PARTS = ("topology", "strategy")  # which are not tuned themselves
_DIGITS = 6


@dataclass(frozen=True)
class Tuning:
    """A request to tune.

    Attributes:
        values: The candidate values of each key.
        share: Share of the training samples that are held out, on which candidates are judged.
        by: The metric that judges them, such as accuracy; None for the main metric of the task.
        replicas: Replicas of each run of the search.
        per: The keys whose values tell groups of runs apart, each of which has a choice of its own; None for all keys
            but the seed.
        halving: By which factor the number of candidates shrinks from rung to rung, if there are many; None for all
            candidates to the end.
    """

    values: dict[str, list[Any]]
    share: float = 0.2
    by: str | None = None
    replicas: int = 3
    per: tuple[str, ...] | None = None
    halving: int | None = 3

    @classmethod
    def parse(cls, given: Any, axes: Iterable[str] = ()) -> "Tuning":
        """Read the key `tune` of an experiment.

        Args:
            given: Its value.
            axes: Names of the axes of the grid, which `per` may name besides keys of an experiment.

        Returns:
            The request.

        Raises:
            ExperimentError: Something in it is not allowed.
        """
        if not isinstance(given, Mapping):
            raise ExperimentError(
                f"tune: got {shown(given)}; allowed is a mapping such as {{optimizer.lr: [0.1, 0.3], on: validation}}"
            )
        settings = {key: given[key] for key in _SETTINGS if key in given}
        roots = [key for key in Config.model_fields if key in _WITH_PARTS or _is_trained(key)]
        for word in given:
            if word not in _SETTINGS and (first := str(word).split(".")[0]) not in Config.model_fields:
                raise ExperimentError(f"tune: got '{first}'; {nearest(first, [*_SETTINGS, *roots])}")
        values = dict(
            axis_columns(
                "tune", {key: value for key, value in given.items() if key not in _SETTINGS}, Config.model_fields
            )
        )
        if not values:
            raise ExperimentError("tune: no key is left to be tuned; give one with its values, such as optimizer.lr")
        for key, several in values.items():
            if not _is_trained(key):
                raise ExperimentError(
                    f"tune.{key}: it is no part of the training; allowed are keys such as optimizer.lr"
                )
            if len(several) < 2 or any(one in several[:place] for place, one in enumerate(several)):
                raise ExperimentError(f"tune.{key}: got {shown(several)}; allowed are two or more different values")
        on = settings.pop("on", "validation")
        if on != "validation":
            raise ExperimentError(
                f"tune.on: got {shown(on)}; allowed is validation: training samples that are held out, since test data"
                " would say nothing about what was chosen by them"
            )
        share, replicas, halving = (settings.get(key, getattr(cls, key)) for key in ("share", "replicas", "halving"))
        if not is_number(share) or not 0 < share < 1:
            raise ExperimentError(f"tune.share: got {shown(share)}; allowed are numbers between 0 and 1")
        if type(replicas) is not int or replicas < 1:
            raise ExperimentError(f"tune.replicas: got {shown(replicas)}; allowed are integers from 1 on")
        if halving is not False and halving is not None and (type(halving) is not int or halving < 2):
            raise ExperimentError(f"tune.halving: got {shown(halving)}; allowed are integers from 2 on, and false")
        if not isinstance(settings.get("by", ""), str):
            raise ExperimentError(f"tune.by: got {shown(settings['by'])}; allowed is the name of a metric")
        per = _per(settings.get("per", "run"), axes)
        if found := [key for key in per or () if key in values]:
            raise ExperimentError(f"tune.per: got '{found[0]}', which is tuned; allowed are keys that tell runs apart")
        return cls(values, share, settings.get("by"), replicas, per, halving or None)

    def rungs(self, count: int) -> list[tuple[float, int]]:
        """Plan successive halving.

        Args:
            count: Number of candidates.

        Returns:
            The share of the schedule at which each rung ends, and how many candidates go to there, the best of the
            rung before: at least as many as the factor, as far as there are, go to the end.
        """
        if self.halving is None or count <= MANY:
            return [(1.0, count)]
        factor = self.halving
        last = max(1, math.floor(math.log(count, factor) + 1e-9) - 1)
        return [(factor ** (rung - last), math.ceil(count / factor**rung)) for rung in range(last + 1)]


def _per(given: Any, axes: Iterable[str]) -> tuple[str, ...] | None:
    """Read what tells apart the groups that have a choice of their own."""
    if given in ("run", ["run"]):
        return None
    fields = (key for key in Config.model_fields if key not in ("strategy_keys", "tuned", "validation"))
    known = list(dict.fromkeys([*fields, *axes]))
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list | tuple) or not all(isinstance(key, str) for key in listed):
        raise ExperimentError(f"tune.per: got {shown(given)}; allowed are run, and a list of keys such as [strategy]")
    for key in listed:
        if key not in known and key.split(".")[0] not in known:
            raise ExperimentError(f"tune.per: an experiment has no key '{key}'; {nearest(key, known)}")
    return tuple(listed)


def _is_trained(key: str) -> bool:
    """Return whether a dotted key says how a run is trained."""
    return key not in _NOT_TUNED and key.split(".")[0] not in ("task", "runtime") and not key.startswith("analysis")


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number.

    Args:
        value: The value.

    Returns:
        Whether it is one; a truth value is none.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def beyond(values: Sequence[Any], *, up: bool) -> Any:
    """Continue a series of candidate values by one step.

    Args:
        values: The values.
        up: Whether at the end of the largest; otherwise, of the smallest.

    Returns:
        The next value, an integer if all are; None if the values are not at least three numbers at about equal steps,
        linear or geometric, or there is no such value.

    Example:
        >>> beyond([0.01, 0.03, 0.1], up=True), beyond([1, 2, 3], up=True), beyond([1, 2, 4], up=False)
        (0.3, 4, None)
    """
    if len(values) < 3 or not all(map(is_number, values)):
        return None
    series = sorted(values, reverse=not up)
    steps = [after - before for before, after in itertools.pairwise(series)]
    if max(map(abs, steps)) <= 1.01 * min(map(abs, steps)):
        found = series[-1] + steps[-1]
    elif min(series) > 0:
        ratios = [abs(math.log(after / before)) for before, after in itertools.pairwise(series)]
        if max(ratios) > 1.7 * min(ratios):
            return None
        found = series[-2] * series[-1] / series[-3]  # over two steps, as from 0.03 and 0.1 on to 0.3
    else:
        return None
    if all(isinstance(value, int) for value in values):
        return round(found) if math.isclose(found, round(found), abs_tol=1e-9) else None
    found = float(f"{found:.{_DIGITS}g}")
    return None if found in values or abs(found) < 1e-9 * max(map(abs, values)) else found
