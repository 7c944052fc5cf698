"""Losses that are statistics of a batch: what the objective becomes on smaller batches, and what scores do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import fmean
from typing import Any, Literal

import torch

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.runs.solution import Solution
from basinet.analysis.statistics.replica_values import all_finals
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check
from basinet.analysis.studies.vision.scale import IID, Scale
from basinet.sim.data.rows import length, take
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["LocalBatches", "draw_batches", "draw_objective", "other_batches"]


def other_batches(
    scale: Scale, loss: str = "", small: Sequence[int] = (), /, **settings: Any
) -> dict[str, dict[str, Any]]:
    """Return the cases of centralised training on as many samples a step, in one batch and in small ones.

    Args:
        scale: The size of the study.
        loss: Name of the loss, where a study compares several of them.
        small: Sizes of the small ones.
        **settings: Settings of the task.

    Returns:
        Keys of the experiment by the names of the cases.
    """
    total = scale.agents * scale.batch
    shared = {f"task.{name}": value for name, value in settings.items()}
    return {
        _named(loss, total // batch, batch): {
            **shared, "task.partition": IID, "topology.agents": total // batch, "batch_size": batch,
        }
        for batch in (total, *small)
    }  # fmt: skip


def _named(loss: str, agents: int, batch: int) -> str:
    return ", ".join(filter(None, [loss, f"{agents} × {batch}"]))


@dataclass(frozen=True)
class LocalBatches:
    """Centralised trainings on as many samples a step, in local batches of several sizes.

    Attributes:
        scale: The size of the study.
        metric: The score.
        usual: The training with the batches of the study.
        others: Those of `other_batches`, by their cases.
        loss: Name of the loss, where a study compares several of them.
        small: Sizes of the small batches.
    """

    scale: Scale
    metric: str
    usual: Run
    others: Mapping[str, Run]
    loss: str = ""
    small: Sequence[int] = ()

    @property
    def whole(self) -> int:
        """Samples a step."""
        return self.scale.agents * self.scale.batch

    @cached_property
    def runs(self) -> dict[tuple[int, int], Run]:
        """The trainings by the number of local batches and the samples in each, from one batch on."""
        one, *few = (
            {(self.whole // batch, batch): self.others[_named(self.loss, self.whole // batch, batch)]}
            for batch in (self.whole, *self.small)
        )
        found = {**one, (self.scale.agents, self.scale.batch): self.usual}
        for each in few:
            found.update(each)
        return found

    def scores(self, agents: int, batch: int) -> list[float]:
        """Return the final score of a training, one per replica."""
        return all_finals(self.runs[agents, batch], self.metric)

    def gaps(self, loss: str = "", part: Literal["train", "test"] = "train", most: int | None = None) -> list[Row]:
        """Compute the mean loss on batches of each size minus that on all samples, at the end of the first replica.

        Args:
            loss: What the loss is called.
            part: The data: those of training, or of tests, whose loss may be another.
            most: Largest number of samples, of all by default.

        Returns:
            Rows with the `loss`, the size of a `batch`, the `gap`, and the loss of the `whole`.
        """
        loss = loss or self.loss
        find = partial(_measure_gaps, self.usual, loss, self.scale.batch, part, most)
        settings = {"config": self.usual.config, "batch": self.scale.batch, "of": part, "most": most}
        return once("objective", find, **settings)

    def another(self, gaps: Sequence[Row], *, expected: bool) -> Check:
        """Check whether a loss is another one on the agents' batches.

        Args:
            gaps: What `gaps` returns.
            expected: Whether it should be, as a statistic of a batch.

        Returns:
            The check.
        """
        loss, batch = gaps[0]["loss"], self.scale.batch
        gap = next(row["gap"] for row in gaps if row["batch"] == batch)
        claim = f"the mean of the losses of batches of {batch} is"
        if expected:
            claim = f"{claim} another loss than that of all samples, {loss}"
            return Check(claim, "not 0", gap, "above 0.001 in size", abs(gap) > 1e-3)
        # Of numbers near 1, in float32.
        return Check.near(f"{claim} the loss of all samples, {loss}", 0.0, gap, within=1e-5)

    def rows(self) -> list[Row]:
        """Return the score of each replica by the local batches, beside those without a network."""
        trivial = {name: values[self.metric] for name, values in self.usual.status["baselines"].items()}
        return [
            {"loss": self.loss, "batches": _named("", *sizes), "replica": replica, "score": score, **trivial}
            for sizes in self.runs
            for replica, score in enumerate(self.scores(*sizes))
        ]


def _measure_gaps(run: Run, loss: str, usual: int, part: str, most: int | None) -> list[Row]:
    solution = Solution(run.path, 0, "float32")
    task, model = solution.task, solution.centroid()
    data: Any = task.train if part == "train" else task.test
    order = torch.randperm(length(data), generator=torch.Generator().manual_seed(0))[:most]
    count = len(order)
    with torch.no_grad():
        whole = float(task.objective(model, take(data, order)))
        rows = []
        for size in sorted({2, usual, *(2**k for k in range(2, 8))}):
            if size <= count:
                cuts = [order[first : first + size] for first in range(0, count - count % size, size)]
                kept = torch.cat(cuts)
                same = float(task.objective(model, take(data, kept))) if len(kept) < count else whole
                found = fmean(float(task.objective(model, take(data, cut))) for cut in cuts)
                rows.append({"loss": loss, "batch": size, "gap": found - same, "whole": same})
    return rows


def draw_objective(gaps: Sequence[Sequence[Row]]) -> Drawing:
    """Draw what losses become on smaller batches.

    Args:
        gaps: Those of each loss.

    Returns:
        The drawing.
    """
    figure, axes = grid(len(gaps), share_x=False, share_y=True)
    for ax, rows in zip(axes, gaps, strict=True):
        ax.plot([row["batch"] for row in rows], [row["gap"] / row["whole"] for row in rows], marker="o")
        ax.axhline(0, linewidth=0.8, color="grey")
        ax.set_xscale("log", base=2)
        ax.set_title(rows[0]["loss"], fontsize="medium")
        ax.set_xlabel("samples in a batch")
        label_log_axes(ax)
    axes[0].set_ylabel("change of the loss, over the loss")
    return Drawing(
        "objective",
        "What the loss becomes on smaller batches",
        "Loss of a centralised model on batches into which the data are cut, minus that on all of them as one batch;"
        " mean over cuts, first replica.",
        figure,
        [row for rows in gaps for row in rows],
    )


def draw_batches(trained: Sequence[LocalBatches], name: str, trivial: str) -> Drawing:
    """Draw scores by local batch.

    Args:
        trained: The trainings under each loss.
        name: What the score is called.
        trivial: What there is without a network, in words.

    Returns:
        The drawing.
    """
    rows = [row for found in trained for row in found.rows()]
    batches = list(dict.fromkeys(row["batches"] for row in rows))
    figure, axes = grid(len(trained), share_x=False, share_y=True)
    for ax, found in zip(axes, trained, strict=True):
        own = found.rows()
        ax.plot([batches.index(row["batches"]) for row in own], [row["score"] for row in own], "o", fillstyle="none")
        ax.set_xticks(range(len(batches)), batches)
        ax.set_xlim(-0.5, len(batches) - 0.5)
        ax.set_title(found.loss, fontsize="medium")
        ax.set_xlabel("local batches × videos in each")
    axes[0].set_ylabel(name)
    return Drawing(
        "batches",
        "Scores by local batch",
        f"Centralised training, {trained[0].whole} videos a step in so many local batches, whose gradients are"
        f" averaged; each mark is a replica. Without a network: {trivial}.",
        figure,
        rows,
    )
