"""Heads that go on with other videos: what flatness before tells of scores afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import legend_below_panels
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import styles
from basinet.analysis.statistics.replica_values import all_finals
from basinet.analysis.statistics.run_labels import strategy_label
from basinet.analysis.studies.flatness_tradeoff.comparisons import larger, nested_errors
from basinet.analysis.studies.flatness_tradeoff.trainings import Array, log
from basinet.analysis.studies.study import Check
from basinet.analysis.studies.vision.judged_extractors import rank_correlation
from basinet.sim.run.folder import Run, RunFolder
from basinet.sim.run.records import Row

__all__ = ["SCRATCH", "Elsewhere", "going_on"]

SCRATCH = "from scratch"

_FLATNESS = "hessian_top_eigenvalue"


def going_on(before: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Return the cases of trainings that start where others have ended, and of one from scratch.

    Args:
        before: Trainings that have chosen the same extractors.

    Returns:
        Keys of the experiment by the names of the cases.
    """
    cases: dict[str, dict[str, Any]] = {SCRATCH: {"task.standards": _standards(before[0])}}
    for run in before:
        start = {"run": str(run.path), "replica": "own"}
        cases[_named(run)] = {"task.standards": _standards(run), "start": start}
    return cases


def _named(run: Run) -> str:
    return f"{strategy_label(run.config)}, {run.config['case']}"


def _standards(run: Run) -> str:
    return str(RunFolder(run.path).kept_of_task("standards").absolute())


@dataclass(frozen=True)
class Elsewhere:
    """Trainings on other videos that have gone on from earlier ones.

    Attributes:
        before: The earlier ones.
        after: Those of `going_on`, by their cases.
        metric: The score, larger if better.
    """

    before: Sequence[Run]
    after: Mapping[str, Run]
    metric: str

    def _first(self, run: Run) -> list[float]:
        """Return the scores before the first step, one per replica."""
        rows = {row["replica"]: row[self.metric] for row in run.metrics if row["step"] == 0 and "agent" not in row}
        return [rows.get(replica, float("nan")) for replica in range(run.config["replicas"])]

    @cached_property
    def rows(self) -> list[Row]:
        """Flatness and score of each replica before, and its scores with the other videos, at once and at the end."""
        found = []
        for run in self.before:
            after = self.after[_named(run)]
            columns = {
                _FLATNESS: all_finals(run, _FLATNESS),
                "score": all_finals(run, self.metric),
                "at once": self._first(after),
                "at the end": all_finals(after, self.metric),
            }
            place = {"strategy": strategy_label(run.config), "case": run.config["case"]}
            found += [
                {**place, "replica": replica, **{name: column[replica] for name, column in columns.items()}}
                for replica in range(run.config["replicas"])
            ]
        return found

    def checks(self, label: str, case: str) -> Iterator[Check]:
        """Check whether heads transfer, and whether flatness tells how well.

        Args:
            label: The strategy whose heads are compared with those from scratch.
            case: Its condition.

        Yields:
            The checks.
        """
        own = self.after[f"{label}, {case}"]
        scratch = all_finals(self.after[SCRATCH], self.metric)
        claim = f"heads that go on score above those from scratch with other videos (difference, {label}, {case})"
        yield larger(claim, all_finals(own, self.metric), scratch)
        for when in ("at once", "at the end"):
            found = self._correlations(when)
            claim = f"flatter heads score higher with other videos, {when} (rank correlation over strategies and data)"
            yield larger(claim, found, np.zeros(len(found)))
        rows = [row for row in self.rows if np.isfinite([row["at once"], row["score"], row[_FLATNESS]]).all()]
        groups = [f"{row['strategy']}, {row['case']}" for row in rows]
        features = {_FLATNESS: log(_column(rows, _FLATNESS)), "score": _column(rows, "score")}
        errors = nested_errors(features, _column(rows, "at once"), groups)
        claim = (
            "flatness tells of scores with other videos what scores before do not (squared error, score before alone"
        )
        yield larger(f"{claim} minus both, trainings left out)", errors["score"], errors["all"])

    def _correlations(self, when: str) -> list[float]:
        """Return, for each replica, the rank correlation of −λ_max and scores over its trainings."""
        found = []
        for replica in sorted({row["replica"] for row in self.rows}):
            own = [row for row in self.rows if row["replica"] == replica]
            own = [row for row in own if np.isfinite([row[when], row[_FLATNESS]]).all()]
            found.append(rank_correlation(-_column(own, _FLATNESS), _column(own, when)))
        return found

    def drawing(self, label: str) -> Drawing:
        """Draw scores with other videos against flatness before.

        Args:
            label: What the score is called.

        Returns:
            The drawing.
        """
        looks = styles(row["strategy"] for row in self.rows)
        times = ("at once", "at the end")
        figure, axes = grid(len(times), share_x=False, share_y=True)
        for ax, when in zip(axes, times, strict=True):
            for name, look in looks.items():
                own = [row for row in self.rows if row["strategy"] == name]
                ax.plot(
                    _column(own, _FLATNESS), _column(own, when),
                    label=name, color=look.color, marker=look.marker, linestyle="",
                )  # fmt: skip
            ax.set_xscale("log")
            ax.set_title(when, fontsize="medium")
            ax.set_xlabel("λ_max where training before has ended")
            label_log_axes(ax)
        axes[0].set_ylabel(label)
        handles, names = axes[0].get_legend_handles_labels()
        legend_below_panels(figure, handles, names)
        scratch = np.mean(all_finals(self.after[SCRATCH], self.metric))
        return Drawing(
            "elsewhere",
            "Scores with other videos against flatness before",
            "Each mark is a replica's head, under either kind of data: its score on the test part of other videos"
            " before it has seen any, and after it has gone on with them, against the flatness where it has started."
            f" From scratch, the score at the end is {scratch:.3f}.",
            figure,
            self.rows,
        )


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    found: Array = np.array([row[name] for row in rows], dtype=float)
    return found
