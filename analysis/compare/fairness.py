"""Which replicas may be averaged, and which averages compared: those of runs that differ in the compared keys alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.analysis.compare.frame import Frame
from basinet.analysis.statistics.run_labels import UNNAMED, describe, listed, setting, varied
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.records import FINISHED

__all__ = ["Group", "compared_keys", "differing", "finished", "grouped", "order_of"]

_NUMERICS = ("runtime.dtype", "runtime.autocast")
"""The keys of the runtime that change numbers; the others say where they are computed."""

_FEW = 4
"""Most unfinished runs that are named where there is no other."""


@dataclass(frozen=True, eq=False)
class Group:
    """Rows of a frame that differ in seed and replica alone.

    Attributes:
        values: The values of the compared keys.
        own: Other settings of the compared strategy, as text; empty if they need not be named.
        condition: The other keys in which runs differ, as text; groups are compared if they share it.
        rows: The rows, [n]; one for each seed and replica.
    """

    values: tuple[Any, ...]
    own: str
    condition: str
    rows: NDArray[np.int64]

    @property
    def label(self) -> str:
        """The values and settings by which it is compared."""
        return ", ".join(filter(None, (*map(describe, self.values), self.own)))

    @property
    def named(self) -> str:
        """The label, with the condition."""
        return f"{self.label} ({self.condition})" if self.condition else self.label


def finished(frame: Frame) -> tuple[Frame, list[str]]:
    """Leave out runs that have not finished, which cannot be compared with those that have.

    Args:
        frame: The replicas.

    Returns:
        Those of finished runs, and a sentence for each run that is left out and each replica that diverged.

    Raises:
        ExperimentError: None has finished.
    """
    notes, done = [], []
    for run in frame.runs:
        state = str(run.status.get("state"))
        done.append(state in FINISHED)
        if not done[-1]:
            notes.append(f"{run.path}: {run.progress}; left out")
        for replica, step in sorted(run.diverged.items()) if done[-1] else ():
            notes.append(f"{run.path}: replica {replica} diverged at step {step}; left out of all means")
    if not any(done):
        more = [f"and {len(notes) - _FEW} more"] if len(notes) > _FEW else []
        raise ExperimentError("; ".join(["no run has finished, so there is nothing to compare", *notes[:_FEW], *more]))
    return frame.select(np.array(done)[frame.places]), notes


def compared_keys(frame: Frame) -> tuple[str, ...]:
    """Choose what to compare runs by.

    Args:
        frame: Their replicas.

    Returns:
        The strategy; if all runs have the same, the only other key or component in which they differ, if there is one.
    """
    strategies = frame.of_runs("strategy")
    if len({*strategies}) == 1:
        _, conditions, _ = _others(frame, ("strategy",), _Parts([strategies]))
        for key in conditions[:1]:
            by = key.removesuffix(".name")
            values = list(map(describe, frame.of_runs(by)))
            if not _others(frame, (by,), _Parts([values]))[1]:
                return (by,)
    return ("strategy",)


def differing(frame: Frame, by: Sequence[str]) -> list[str]:
    """Find the keys in which runs differ besides the compared ones.

    Args:
        frame: Their replicas.
        by: The compared keys.

    Returns:
        The keys of the conditions, of keys that change together one; then those of the strategies.
    """
    own, conditions, _ = _others(frame, by, _Parts([list(map(describe, frame.of_runs(key))) for key in by]))
    return [*conditions, *own]


def grouped(frame: Frame, by: Sequence[str]) -> tuple[list[Group], list[str]]:
    """Group replicas by the compared keys, and by all other keys in which their runs differ, but for the seed.

    Runs that differ in more than the compared keys are so neither averaged nor compared: they have other conditions. No
    condition is what belongs to the compared strategy, as one of its settings or because it was set for it alone; nor a
    setting of another compared component that not all have, such as the layers of a model; nor a case that the compared
    keys and the other conditions imply, and what this sets.

    Args:
        frame: Replicas of finished runs.
        by: The compared keys, as for `Frame.column`.

    Returns:
        The groups by condition, and a sentence for each key in which the runs differ, too.

    Raises:
        ExperimentError: There is no such key, or it is no key of an experiment.
    """
    for key in by:
        if key in frame.names and not (frame.is_chosen(key) and key not in ("replica", "state")):
            allowed = listed([*frame.components, *frame.keys])
            raise ExperimentError(f"--by: {key} is measured, not chosen; allowed are keys such as {allowed}")
    values = [frame.of_runs(key) for key in by]
    parts = _Parts([list(map(describe, column)) for column in values])
    own, conditions, notes = _others(frame, by, parts)
    places: dict[tuple[str, ...], list[int]] = {}
    for place, texts in enumerate(
        zip(_said(frame, conditions), _said(frame, own, ("strategy", *by)), *parts.columns, strict=True)
    ):
        places.setdefault(texts[: 2 + len(by)], []).append(place)
    groups = []
    for (condition, which, *_), members in places.items():
        rows, twice = _once(frame, members)
        groups.append(Group(tuple(column[members[0]] for column in values), which, condition, rows))
        notes += twice
    orders = [list(dict.fromkeys(column)) for column in parts.columns[: len(by)]]
    conditions_met = list(dict.fromkeys(group.condition for group in groups))
    groups.sort(
        key=lambda group: (
            conditions_met.index(group.condition),
            [order_of(value, order) for value, order in zip(group.values, orders, strict=True)],
        )
    )
    return groups, notes


class _Parts:
    """A partition of runs by the texts of columns."""

    def __init__(self, columns: list[list[str]]) -> None:
        self.columns = columns

    def number(self, *further: list[str]) -> int:
        """Count the parts, with further columns."""
        return len({*zip(*self.columns, *further, strict=True)})

    def split(self, column: list[str]) -> bool:
        """Add a column if it splits the parts; return whether it does."""
        if self.number(column) == self.number():
            return False
        self.columns.append(column)
        return True


def _others(frame: Frame, by: Sequence[str], parts: _Parts) -> tuple[list[str], list[str], list[str]]:
    """Find the keys in which runs differ besides the compared ones: those of the strategies, and the conditions."""
    runs = frame.runs
    if "run" in by:
        return [], [], []
    of_strategies = "strategy" in by
    covered = {*by, "seed", *(f"{key}.name" for key in by), *UNNAMED[0 if of_strategies else 3 :]}
    keys = [key for key in varied(runs) if key not in covered]
    keys = [key for key in keys if not key.startswith("runtime.") or key in _NUMERICS]
    texts = {key: [describe(setting(run.config, key)) for run in runs] for key in keys}
    keys = [key for key in keys if len({*texts[key]}) > 1]  # 1 and 1.0 are the same
    keys, notes = _without_axes(frame, by, parts, keys, texts)
    tuned = {word for run in runs for word in run.config.get("tuned") or ()}
    owners = {"strategy", *(word for run in runs for word in run.config.get("strategy_keys") or ())}
    owners = owners - {"case"} if of_strategies else tuned  # what was tuned is no condition, whatever is compared
    ours = [key for key in keys if any(key == word or key.startswith(f"{word}.") for word in owners)]
    ours += [key for key in keys if key not in ours and _is_own(key, frame, by, texts[key])]
    case = _Parts([texts["case"]]) if "case" in keys else None
    rest = [key for key in keys if key not in ours and key != "case"]
    implied = [key for key in rest if case and case.number(texts[key]) == case.number()]
    differing = [key for key in rest if key not in implied]
    for key in differing:
        parts.split(texts[key])
    # Of keys that change together one is shown, rather one that all runs have.
    shown = _Parts([["" for _ in runs]])
    chosen = [key for key in sorted(differing, key=lambda key: "none" in texts[key]) if shown.split(texts[key])]
    conditions = [key for key in differing if key in chosen]
    kind = " and ".join(by)
    if case and parts.split(texts["case"]):
        conditions.insert(0, "case")
        differing.insert(0, "case")
    elif case:
        notes += [f"{key} differs along with {kind}, as the cases set it" for key in implied]
    own = [key for key in ours if parts.split(texts[key])]
    more = sorted([*differing, *own], key=lambda key: key not in (*conditions, *own))
    if "task.name" in differing:
        more = [key for key in more if not key.startswith("task.")]
        found = listed(list(dict.fromkeys(texts["task.name"])))
        notes.append(f"the runs are of different tasks ({found}), which are not compared with each other")
    if more:
        said = [f"{key.removesuffix('.name')} ({listed(list(dict.fromkeys(texts[key])))})" for key in more]
        first = more[0].removesuffix(".name")
        notes.append(
            f"the runs differ in {listed(said)} besides {kind}, and are not averaged over that: compare by it, too"
            f" (--by {','.join((*by, first))}), or choose (--where {first}=…)"
        )
    return own, conditions, notes


def _without_axes(
    frame: Frame, by: Sequence[str], parts: _Parts, keys: list[str], texts: Mapping[str, list[str]]
) -> tuple[list[str], list[str]]:
    """Leave out keys that follow from a named axis, which stands for them; and axes that compared keys imply.

    Returns:
        The keys that are left, and a sentence for each axis that is compared by some of its keys.
    """
    notes = []
    for axis in frame.axes:
        compared = [key for key in by if frame.axis_of(key) == axis]
        ours = [key for key in keys if frame.axis_of(key) == axis]
        if compared and ("strategy" in compared or parts.number(*(texts[key] for key in ours)) == parts.number()):
            lost = [key for key in ours if key == axis or "strategy" not in compared]
            along = [key for key in lost if key != axis]
            if along and axis not in compared:
                go = "goes" if len(along) == 1 else "go"
                notes.append(f"{compared[0]} stands for the axis {axis}, on which {listed(along)} {go} along with it")
        elif axis not in ours or "none" in texts[axis]:  # some runs are on no such axis
            lost = [axis]
        else:
            alone = _Parts([texts[axis]])
            lost = [key for key in ours if key != axis and alone.number(texts[key]) == alone.number()]
        keys = [key for key in keys if key not in lost]
    return keys, notes


def _is_own(key: str, frame: Frame, by: Sequence[str], texts: Sequence[str]) -> bool:
    """Return whether a key is a setting of a compared component, such as the layers of a model, which not all have."""
    owner = next((name for name in by if name in frame.components and key.startswith(f"{name}.")), None)
    return owner is not None and ("none" in texts or len({*map(describe, frame.of_runs(f"{owner}.name"))}) == 1)


def _said(frame: Frame, keys: Sequence[str], of: Sequence[str] = ("strategy",)) -> list[str]:
    """Format the values of keys for each run, without keys that it does not have, and without the names of owners."""
    columns = []
    for key in keys:
        found = [setting(run.config, key) for run in frame.runs]
        short = key.removesuffix(".name")
        short = next((short.removeprefix(f"{owner}.") for owner in of if short.startswith(f"{owner}.")), short)
        columns.append(["" if v is None else describe(v) if key == "case" else f"{short}={describe(v)}" for v in found])
    return [", ".join(filter(None, texts)) for texts in zip(*columns, strict=True)] if keys else [""] * len(frame.runs)


def _once(frame: Frame, members: Sequence[int]) -> tuple[NDArray[np.int64], list[str]]:
    """List the rows of runs, with each seed and replica once."""
    notes: list[str] = []
    seeds: dict[Any, int] = {}
    kept: dict[tuple[Any, int], int] = {}
    for place in members:
        run = frame.runs[place]
        seed = run.config.get("seed")
        before = seeds.setdefault(seed, place)
        if before != place:
            notes.append(f"{run.path} repeats {frame.runs[before].path} (seed {seed}); replicas of both count once")
        for row in np.flatnonzero(frame.places == place).tolist():
            kept.setdefault((seed, int(frame.replicas[row])), row)
    return np.array(list(kept.values()), dtype=int), notes


def order_of(value: Any, order: Sequence[str]) -> tuple[bool, float]:
    """Order values: numbers by size, then others as they first appear.

    Args:
        value: A value.
        order: The values as texts, in the order of their appearance.

    Returns:
        What to sort by.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return not number, float(value) if number else order.index(describe(value))
