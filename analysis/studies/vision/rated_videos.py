"""Video quality by networks of agents: strategies and data, and losses of a whole batch on local batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from matplotlib.figure import Figure

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.runs.solution import Solution
from basinet.analysis.statistics.replica_values import all_finals
from basinet.analysis.studies.flatness_tradeoff.claims import part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import Difference, larger
from basinet.analysis.studies.flatness_tradeoff.trainings import by_case, carry_out
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.vision.scale import IID, Scale, Steps
from basinet.analysis.studies.vision.strategies_compared import NO_AGENTS, Compared, at_least
from basinet.sim.data.rows import length, take
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["SCALES", "Scale", "find_out", "video_quality"]

_METRIC, _RIDGE = "test_challenge_score", "ridge on scene statistics"

_SAME = 0.05
"""Scores that differ by less count as the same."""

_LOSSES = ("l1", "plcc")
"""The loss of single videos, which is the control, and that of the correlation over a batch."""


_EXPERIMENT = {
    "schedule": {"name": "cosine", "final": 0.2},
    "analysis": ["hessian_top_eigenvalue", {"name": "excess_risk", "products": 20}],
    "analysis_samples": 72,
}

SCALES = {
    "small": Scale(
        about="Clips of 80 contents, of which statistics of frames and of motion are rated by a perceptron of 11,137"
        " parameters. Some ten minutes on two processors.",
        task={"name": "video_quality", "inputs": "features"},
        apart="distortion",
        model={"name": "quality_perceptron", "hidden": 64},
        agents=9,
        batch=8,
        rate=0.002,
        steps=400,
        replicas=8,
        of_agents=3,
        experiment=_EXPERIMENT | {"evaluate_every": 100},
    ),
    "large": Scale(
        about="Clips of 80 contents, of which patches of all frames at their native resolution are rated by a"
        " three-dimensional network of 76,501 parameters. Some days on a processor; hours on a GPU.",
        task={"name": "video_quality", "inputs": "fragments"},
        apart="distortion",
        model={"name": "fragment_network"},
        agents=9,
        batch=4,
        rate=0.001,
        steps=3000,
        replicas=5,
        of_agents=5,
        experiment=_EXPERIMENT | {"evaluate_every": 500, "analysis_samples": 64, "runtime": {}},
    ),
}
"""The sizes by name."""


def video_quality(
    progress: Progress,
    folder: Path,
    *,
    scale: Literal["small", "large"] = "small",
    replicas: Count | None = None,
    steps: Steps | None = None,
) -> Findings:
    """Networks of agents rate videos: strategies, one distortion per agent, and what local batches do to PLCC.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        scale: "small" for minutes on two processors; "large" for a network of the pixels, hours on a GPU.
        replicas: Number of replicas, by default that of the scale.
        steps: Number of steps, by default that of the scale.

    Returns:
        The findings.
    """
    chosen = SCALES[scale]
    return find_out(
        progress, folder, replace(chosen, replicas=replicas or chosen.replicas, steps=steps or chosen.steps)
    )


def find_out(progress: Progress, folder: Path, scale: Scale) -> Findings:
    """Train by all strategies under both losses, on data of one kind and on one distortion per agent.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings.
        scale: The size of the study.

    Returns:
        The findings.
    """
    compared = {}
    for place, loss in enumerate(_LOSSES):
        described, own = scale.describe(scale.conditions(loss=loss)), part_of(progress, 0.45 * place, 0.45)
        runs = carry_out(folder, f"strategies_{loss}", described, own)
        compared[loss] = Compared(runs, _METRIC, scale.of_agents, loss)
    described = scale.describe(_batches(scale), strategy=NO_AGENTS, analysis=[])
    others = by_case(carry_out(folder, "batches", described, part_of(progress, 0.9, 0.1)))
    usual = {loss: found.outcomes.run(NO_AGENTS, IID) for loss, found in compared.items()}
    baselines = compared["l1"].baselines
    trivial = ", ".join(f"{name} {value:.3f}" for name, value in baselines.items())
    whole = scale.agents * scale.batch
    gaps = {loss: _gaps(usual[loss], scale) for loss in _LOSSES}
    bars = [row for loss in _LOSSES for row in _of_batches(loss, usual[loss], others, scale)]
    return Findings(
        title="Video quality by networks of agents",
        about=[
            scale.about,
            f"{scale.agents} agents on a ring, each with a batch of {scale.batch}, take {scale.steps} steps of Adam"
            f" under a rate that falls from {scale.rate:g} to a fifth; the corrections of exact diffusion and of"
            f" gradient tracking are derived for plain gradients. {IID}: the training videos are dealt out at random."
            f" {scale.apart_name.capitalize()}: an agent sees videos of one {scale.apart} only, or of none."
            f" Centralised training averages the gradients of the same agents. {scale.replicas} replicas under seed 1,"
            " which share initial values and samples.",
            "The score is that of the challenge NTIRE 2024, 0.45 SROCC + 0.45 PLCC + 0.05 + 0.05 of the fractions of"
            f" right pairs, on test videos of other contents. Without a network: {trivial}.",
            f"l1 is a mean over videos; plcc is a loss of the correlation within a batch. The gradient of the latter on"
            f" {scale.agents} local batches of {scale.batch}, averaged, is not that on the {whole} videos together:"
            " agents minimise another objective than a single model does. It ignores the scale of predictions, on which"
            " λ_max depends: flatness compares trainings under plcc with caution.",
            "Each row is a test of its own: of twenty claims without any truth, one would show by chance.",
        ],
        checks=[*_checks(compared, scale), *_batch_checks(gaps, usual, others, scale)],
        drawings=[
            *(drawing for found in compared.values() for drawing in found.drawings()),
            Drawing(
                "objective",
                "What the loss becomes on smaller batches",
                "Training loss of a centralised model, on batches into which the training videos are cut, minus that on"
                " all of them as one batch; mean over cuts, first replica.",
                _draw_gaps(gaps),
                [row for rows in gaps.values() for row in rows],
            ),
            Drawing(
                "batches",
                "Scores by local batch",
                f"Centralised training, {whole} videos a step in so many local batches, whose gradients are averaged;"
                f" each mark is a replica. Without a network: {trivial}.",
                _draw_batches(bars),
                bars,
            ),
        ],
        sources=[
            "X. Li et al.: NTIRE 2024 challenge on short-form UGC video quality assessment, CVPRW 2024,"
            " arXiv:2404.11313.",
            "Y. Lu et al.: KVQ: Kwai video quality assessment for short-form videos, CVPR 2024, arXiv:2402.07220.",
            "Y. Cao, Z. Wu, K. Yuan, A. H. Sayed: On the trade-off between flatness and optimization in distributed"
            " learning, 2024, arXiv:2406.20006.",
        ],
    )


def _batches(scale: Scale) -> dict[str, dict[str, Any]]:
    """Return the cases of centralised training on as many videos a step, in other local batches."""
    total = scale.agents * scale.batch
    return {
        f"{loss}, {agents} × {total // agents}": {
            "task.loss": loss, "task.partition": IID, "topology.agents": agents, "batch_size": total // agents,
        }
        for loss in _LOSSES
        for agents in (1, total // 2)
    }  # fmt: skip


def _checks(compared: Mapping[str, Compared], scale: Scale) -> Iterator[Check]:
    for loss, found in compared.items():
        central, ridge = found.score(NO_AGENTS, IID), found.baselines[_RIDGE]
        claim = f"the network beats the {_RIDGE} (difference, centralised, {IID}, {loss})"
        yield at_least(claim, central, [ridge] * len(central), 0.0)
    for found in compared.values():
        for case in (IID, scale.apart_name):
            yield found.better(case)
            yield from found.flatter(case)
        yield from found.mended(IID, scale.apart_name)
        yield found.ordered()


def _batch_checks(
    gaps: Mapping[str, Sequence[Row]], usual: Mapping[str, Run], others: Mapping[str, Run], scale: Scale
) -> Iterator[Check]:
    small = {loss: next(row["gap"] for row in rows if row["batch"] == scale.batch) for loss, rows in gaps.items()}
    claim = f"the mean of the losses of batches of {scale.batch} is the loss of all videos, l1"
    yield Check.near(claim, 0.0, small["l1"], within=1e-5)  # of numbers near 1, in float32
    claim = f"the mean of the losses of batches of {scale.batch} is another loss than that of all videos, plcc"
    gap = abs(small["plcc"])
    yield Check(claim, "not 0", small["plcc"], "above 0.001 in size", gap > 1e-3)
    whole = scale.agents * scale.batch
    for loss in _LOSSES:
        one = all_finals(others[f"{loss}, 1 × {whole}"], _METRIC)
        few, many = all_finals(usual[loss], _METRIC), all_finals(others[f"{loss}, {whole // 2} × 2"], _METRIC)
        for agents, batch, scores in ((scale.agents, scale.batch, few), (whole // 2, 2, many)):
            what = f"{agents} local ones of {batch} (difference, centralised, {loss})"
            if loss == "plcc":
                yield larger(f"a batch of {whole} scores above {what}", one, scores)
            else:
                found, rule = Difference(one, scores), f"the paired 95 % interval lies within ±{_SAME:g}"
                same, no = max(-found.low, found.high) < _SAME, "not shown" if found.pairs > 1 else "too few pairs"
                yield Check(f"a batch of {whole} scores as high as {what}", 0.0, str(found), rule, same, no)


def _gaps(run: Run, scale: Scale) -> list[Row]:
    """Return the mean loss on batches of each size minus that on all videos, at the end of the first replica."""
    return once("objective", partial(_measure_gaps, run, scale.batch), config=run.config, batch=scale.batch)


def _measure_gaps(run: Run, usual: int) -> list[Row]:
    solution = Solution(run.path, 0, "float32")
    task, model = solution.task, solution.centroid()
    data: Any = task.train
    count = length(data)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = float(task.objective(model, take(data, order)))
        rows = []
        for size in sorted({2, usual, *(2**k for k in range(2, 8))}):
            if size <= count:
                cuts = [order[first : first + size] for first in range(0, count - count % size, size)]
                kept = torch.cat(cuts)
                same = float(task.objective(model, take(data, kept))) if len(kept) < count else whole
                found = fmean(float(task.objective(model, take(data, cut))) for cut in cuts)
                rows.append({"loss": run.config["task"]["loss"], "batch": size, "gap": found - same, "whole": same})
    return rows


def _draw_gaps(gaps: Mapping[str, Sequence[Row]]) -> Figure:
    figure, axes = grid(len(gaps), share_x=False, share_y=True)
    for ax, (loss, rows) in zip(axes, gaps.items(), strict=True):
        ax.plot([row["batch"] for row in rows], [row["gap"] / row["whole"] for row in rows], marker="o")
        ax.axhline(0, linewidth=0.8, color="grey")
        ax.set_xscale("log", base=2)
        ax.set_title(loss, fontsize="medium")
        ax.set_xlabel("videos in a batch")
        label_log_axes(ax)
    axes[0].set_ylabel("change of the loss, over the loss")
    return figure


def _of_batches(loss: str, usual: Run, others: Mapping[str, Run], scale: Scale) -> list[Row]:
    whole = scale.agents * scale.batch
    runs = {
        f"1 × {whole}": others[f"{loss}, 1 × {whole}"],
        f"{scale.agents} × {scale.batch}": usual,
        f"{whole // 2} × 2": others[f"{loss}, {whole // 2} × 2"],
    }
    trivial = {name: values[_METRIC] for name, values in usual.status["baselines"].items()}
    return [
        {"loss": loss, "batches": batches, "replica": replica, "score": score, **trivial}
        for batches, run in runs.items()
        for replica, score in enumerate(all_finals(run, _METRIC))
    ]


def _draw_batches(rows: Sequence[Row]) -> Figure:
    losses = list(dict.fromkeys(row["loss"] for row in rows))
    batches = list(dict.fromkeys(row["batches"] for row in rows))
    figure, axes = grid(len(losses), share_x=False, share_y=True)
    for ax, loss in zip(axes, losses, strict=True):
        own = [row for row in rows if row["loss"] == loss]
        ax.plot([batches.index(row["batches"]) for row in own], [row["score"] for row in own], "o", fillstyle="none")
        ax.set_xticks(range(len(batches)), batches)
        ax.set_xlim(-0.5, len(batches) - 0.5)
        ax.set_title(loss, fontsize="medium")
        ax.set_xlabel("local batches × videos in each")
    axes[0].set_ylabel("challenge score")
    return figure
