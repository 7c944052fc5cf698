"""Comparison of runs: means over replicas, which are best and whether significantly, and efforts to a target."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from basinet.analysis.compare.comparison_table import Interval, table_of
from basinet.analysis.compare.efforts import EFFORTS
from basinet.analysis.compare.fairness import Group, compared_keys, finished, grouped
from basinet.analysis.compare.frame import Frame
from basinet.analysis.compare.frame_reading import read
from basinet.analysis.compare.significance import best_of_each
from basinet.analysis.compare.tables_of_text import TextTable
from basinet.analysis.compare.targets import Reached, parse_target, reached
from basinet.analysis.statistics.bootstrap import bootstrap_interval, resamples
from basinet.analysis.statistics.incidents import validated
from basinet.analysis.statistics.replica_values import moments
from basinet.analysis.statistics.run_labels import describe, listed
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.quantity import Quantity

if TYPE_CHECKING:
    from basinet.analysis.compare.relations import Relations

__all__ = ["Comparison", "Mean", "compare", "comparison_of"]


@dataclass(frozen=True)
class Mean:
    """The mean of a metric in a group.

    Attributes:
        values: Its values by seed and replica.
        mean: Their mean; NaN without values.
        error: Its standard error; NaN below two values.
        rank: Rank of the mean in the condition, from 1 for the best; NaN if neither direction is better.
        p: P-value of the difference from the best of the condition; NaN for the best.
        best: Whether it is the best, and significantly better than the next.
    """

    values: dict[tuple[int, int], float]
    mean: float
    error: float
    rank: float
    p: float
    best: bool

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % percentile bootstrap interval; NaN below two values."""
        count = len(self.values)
        return bootstrap_interval(np.array(list(self.values.values()))[resamples(count, seed=0)].mean(1), count)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Groups of replicas side by side.

    Attributes:
        frame: The replicas of finished runs.
        by: The compared keys.
        groups: Their groups by condition.
        means: For each group, its means by metric.
        target: The metric and the value to be reached; None for none.
        efforts: For each group, what it needs to reach the target.
        columns: The metrics of the table, and keys whose values it has.
        quantities: What the metrics of the table mean.
        left_out: A sentence for everything that was left out.
        notes: A sentence for everything else that is not as asked for.
    """

    frame: Frame
    by: tuple[str, ...]
    groups: tuple[Group, ...]
    means: tuple[dict[str, Mean], ...]
    target: tuple[str, float] | None = None
    efforts: tuple[dict[str, Reached], ...] = ()
    columns: tuple[str, ...] = ()
    quantities: dict[str, Quantity] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Comparison({len(self.groups)} groups of {len(self.frame)} replicas by {', '.join(self.by)})"

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return self.table().html()

    def relations(self, y: str, x: str, given: str | None = None) -> "Relations":
        """Relate a measure to another one over all replicas; see `basinet.analysis.compare.relations.relations`.

        Args:
            y: The measure that is explained, such as test_accuracy.
            x: A measure, such as hessian_trace.
            given: A third measure, such as excess_risk; None for none.

        Returns:
            Correlations and linear models.
        """
        from basinet.analysis.compare.relations import relations

        return relations(self.frame, self.groups, y, x, given)

    def rows(self) -> list[dict[str, Any]]:
        """Return plain values.

        Returns:
            A row for each group: the compared keys, `condition`, `replicas` (used) and `of` (all); for each metric
            `_mean`, `_se` (standard error), `_lower` and `_upper` (bootstrap), `_n`, `_rank`, `_p` and `_best`; other
            columns as text; for a target `reached` and, for each effort, the `_median` with `_lower` and `_upper`.
            Missing values are None.
        """
        found = []
        for place, (group, means) in enumerate(zip(self.groups, self.means, strict=True)):
            row: dict[str, Any] = dict(zip(self.by, group.values, strict=True))
            row |= {"settings": group.own} if any(other.own for other in self.groups) else {}
            row |= {name: self.said(group, name) for name in self.columns if name not in (*self.quantities, *row)}
            row |= {"condition": group.condition, "replicas": self.used(group), "of": len(group.rows)}
            for metric, cell in means.items():
                row |= {f"{metric}_mean": cell.mean, f"{metric}_se": cell.error, f"{metric}_n": len(cell.values)}
                row |= dict(zip((f"{metric}_lower", f"{metric}_upper"), cell.interval, strict=True))
                if self.quantities[metric].direction:
                    row |= {f"{metric}_rank": cell.rank, f"{metric}_p": cell.p, f"{metric}_best": cell.best}
            for effort, of in self.efforts[place].items() if self.efforts else ():
                row |= {"reached": of.count, f"{effort}_median": of.median}
                row |= {f"{effort}_median_lower": of.lower, f"{effort}_median_upper": of.upper}
            found.append({key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()})
        return found

    def used(self, group: Group) -> int:
        """Count the replicas of a group that did not diverge.

        Args:
            group: The group.

        Returns:
            Their number.
        """
        states = self.frame.column("state")
        return sum(states[row] != "diverged" for row in group.rows.tolist())

    def said(self, group: Group, name: str) -> str:
        """List what a key of the experiment is in a group.

        Args:
            group: The group.
            name: The key, as for `Frame.column`.

        Returns:
            Its values as text.
        """
        column = self.frame.column(name)
        return listed(list(dict.fromkeys(describe(column[row]) for row in group.rows.tolist())))

    def table(self, interval: Interval = "error", *, most: int | None = None) -> TextTable:
        """Format the comparison as text.

        Args:
            interval: What follows the means: the standard error, or the 95 % bootstrap interval.
            most: The largest number of groups that are shown; of more, the best of each value of the compared keys.

        Returns:
            The table.
        """
        return table_of(self, interval, most)


def compare(
    *folders: str | Path,
    by: str | Sequence[str] = (),
    where: str | Iterable[str] | Mapping[str, Any] = (),
    target: str | None = None,
    metrics: Sequence[str] = (),
) -> Comparison:
    """Compare finished runs: their means over replicas, and which are significantly better.

    Args:
        *folders: Folders that `run` wrote, or folders of single runs.
        by: The keys of the experiment that are compared, such as `strategy`, `topology` or `optimizer.lr`; by default,
            the strategy, or the only key or component in which the runs differ. Runs that differ in other keys are
            neither averaged nor compared, but shown under their conditions; replicas of all seeds are averaged.
        where: Conditions `key=value` or `key=value,value` that the runs must meet, or a mapping from keys to values or
            lists of them.
        target: `metric=value`, to find the steps, samples, bytes and time that it takes to reach it.
        metrics: The columns of the table, in this order: metrics, and whatever else `Frame.column` has, such as bytes,
            spectral_gap or optimizer.lr; by default, the metrics that summaries have.

    Returns:
        The comparison.

    Raises:
        ExperimentError: Nothing is left to compare, or there is no such key or metric.
    """
    frame = read(folders, _conditions(where))
    found = comparison_of(frame, (by,) if isinstance(by, str) else tuple(by), target, metrics)
    if not any(map(found.used, found.groups)):
        raise ExperimentError("; ".join(["no replica is left to compare", *found.left_out]))
    if not found.quantities and not metrics:
        raise ExperimentError("no metric of summaries was measured; choose columns by --metrics, such as bytes")
    return found


def comparison_of(
    frame: Frame, by: tuple[str, ...] = (), target: str | None = None, metrics: Sequence[str] = ()
) -> Comparison:
    """Compare the runs of a frame.

    Args:
        frame: The replicas.
        by: The compared keys, as for `compare`.
        target: The target, as for `compare`.
        metrics: The metrics, as for `compare`.

    Returns:
        The comparison.

    Raises:
        ExperimentError: No run has finished, or there is no such key or metric.
    """
    frame, unfinished = finished(frame)
    by = tuple(dict.fromkeys(by)) or compared_keys(frame)
    groups, notes = grouped(frame, by)
    quantities = _asked(frame, metrics) if metrics else _shown(frame)
    tuned = [key for run in frame.runs for key in run.config.get("tuned") or () if key not in by]
    columns = tuple(dict.fromkeys(metrics or [*tuned, *quantities]))
    means: list[dict[str, Mean]] = [{} for _ in groups]
    conditions = [group.condition for group in groups]
    keys = list(zip(frame.column("seed"), frame.replicas.tolist(), strict=True))
    states = frame.column("state")
    sound = [[row for row in group.rows.tolist() if states[row] != "diverged"] for group in groups]
    samples = [tuple(sorted(frame.samples[rows].tolist())) or (-1 - n,) for n, rows in enumerate(sound)]
    for metric, quantity in quantities.items():
        column = frame.numbers(metric)
        values = [
            {keys[row]: float(column[row]) for row in g.rows.tolist() if np.isfinite(column[row])} for g in groups
        ]
        marks = zip(*best_of_each(conditions, values, quantity.direction, samples=samples), strict=True)
        for place, (found, (rank, p, best)) in enumerate(zip(values, marks, strict=True)):
            if found:
                means[place][metric] = _mean(found, rank, p, best)
        lacking = [group.label for group, found in zip(groups, values, strict=True) if not found]
        if lacking:
            notes.append(f"{metric} was not measured in any replica of {listed(list(dict.fromkeys(lacking)))}")
        some = [
            f"{len(found)} of {used} replicas of {group.named}"
            for group, found, used in zip(groups, values, map(len, sound), strict=True)
            if 0 < len(found) < used
        ]
        if some:
            notes.append(f"{metric} was measured in only {listed(some)}")
    alone = [group.named for group in groups if len(group.rows) == 1]
    if alone:
        notes.append(f"there is a single replica of {listed(alone)}, so there is no error and no test")
    copied = [group.named for place, group in enumerate(groups) if samples.index(samples[place]) < place]
    if copied:
        notes.append(
            f"the replicas of {listed(copied)} are copies of those on another graph, as their strategy does not use it;"
            " tests count them once"
        )
    notes += validated(frame.runs)
    wanted = parse_target(target, frame) if target else None
    efforts = tuple(reached(frame, groups, *wanted)) if wanted else ()
    if wanted and not any({"seconds", "simulated_time"} & of.keys() for of in efforts):
        notes.append("time to the target: the runs have recorded no times")
    left_out = (*frame.notes, *unfinished)
    means_of = tuple(means)
    return Comparison(frame, by, tuple(groups), means_of, wanted, efforts, columns, quantities, left_out, tuple(notes))


def _conditions(where: str | Iterable[str] | Mapping[str, Any]) -> list[str]:
    """List conditions as `key=value,value`."""
    if isinstance(where, Mapping):
        several = {key: value if isinstance(value, list | tuple) else [value] for key, value in where.items()}
        return [f"{key}={','.join(map(describe, values))}" for key, values in several.items()]
    return [where] if isinstance(where, str) else list(where)


def _shown(frame: Frame) -> dict[str, Quantity]:
    """Choose the metrics that a table has: those with a heading; those that do not compare strategies come last."""
    known = {metric: frame.quantity(metric) for metric in frame.metrics}
    kept = [(metric, quantity) for metric, quantity in known.items() if quantity.heading and metric not in EFFORTS]
    return dict(sorted(kept, key=lambda item: (not item[1].compared, item[0] in ("train_loss", "test_loss"))))


def _asked(frame: Frame, metrics: Sequence[str]) -> dict[str, Quantity]:
    """Look up the columns that were asked for, without those of keys; raise if there is no such column."""
    found = {}
    for metric in metrics:
        frame.column(metric)
        if frame.is_chosen(metric):
            continue
        known = frame.quantity(metric)
        found[metric] = replace(known, heading=known.heading or known.label)
    return found


def _mean(values: dict[tuple[int, int], float], rank: float, p: float, best: bool) -> Mean:
    mean, error, _ = moments(values.values())
    return Mean(values, math.nan if mean is None else mean, math.nan if error is None else error, rank, p, best)
