"""Ensembles of pretrained networks: the claims of PTM-VQA, and heads that agents train together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from basinet.analysis.studies.flatness_tradeoff.claims import part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import larger
from basinet.analysis.studies.flatness_tradeoff.trainings import by_case, carry_out
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.vision.extractor_heads import (
    BATCH,
    FIXED,
    METRIC,
    OBJECTIVES,
    PLCC,
    SCORE,
    EnsembleScale,
    Heads,
)
from basinet.analysis.studies.vision.heads_elsewhere import Elsewhere, going_on
from basinet.analysis.studies.vision.local_batches import LocalBatches, draw_batches, draw_objective, other_batches
from basinet.analysis.studies.vision.scale import IID, STRATEGIES, Steps
from basinet.analysis.studies.vision.strategies_compared import ALONE, DIFFUSION, LOCAL, NO_AGENTS, Compared
from basinet.sim.run.records import Row

__all__ = ["SMALL", "find_out", "pretrained_ensemble"]

_FEW = 4
"""Size of local batches that are smaller than those of the agents."""

SMALL = EnsembleScale(
    about="Clips of 80 contents, of which nine frozen extractors describe two frames each; heads of 95,233 parameters"
    " (common space of 32 dimensions). Some seven processor minutes, and three more at first use, which trains the"
    " extractors.",
    task={"name": "pretrained_ensemble"},
    apart="distortion",
    model={"name": "ensemble_regressor", "width": 32},
    agents=9,
    batch=8,
    rate=0.003,
    steps=150,
    replicas=3,
    of_agents=3,
    experiment={
        "schedule": {"name": "cosine", "final": 0.1},
        "evaluate_every": 50,
        "analysis": ["hessian_top_eigenvalue", {"name": "excess_risk", "products": 20}],
        "analysis_samples": 72,
    },
    strategies=[*STRATEGIES, {"name": "local_sgd", "period": 10}, ALONE],
    elsewhere={"contents": 60, "size": 64},
)
"""The usual size."""


def pretrained_ensemble(
    progress: Progress, folder: Path, *, replicas: Count | None = None, steps: Steps | None = None
) -> Findings:
    """Ensembles of frozen extractors rate videos (PTM-VQA): ICID, selection by an index, agents, flatness and transfer.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        replicas: Number of replicas, by default 3, and 8 of single models.
        steps: Number of steps.

    Returns:
        The findings.
    """
    chosen = replace(SMALL, steps=steps or SMALL.steps)
    if replicas is not None:
        chosen = replace(chosen, replicas=replicas, of_agents=replicas, of_heads=replicas)
    return find_out(progress, folder, chosen)


def find_out(progress: Progress, folder: Path, scale: EnsembleScale) -> Findings:
    """Train heads with and without ICID, on selected extractors, by all strategies, and with other videos.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings.
        scale: The size of the study.

    Returns:
        The findings.
    """
    described = scale.one_model(scale.heads(), replicas=scale.of_heads)
    heads = Heads(by_case(carry_out(folder, "heads", described, part_of(progress, 0, 0.4))), scale)
    described = scale.describe(scale.conditions())
    found = Compared(carry_out(folder, "strategies", described, part_of(progress, 0.4, 0.3)), METRIC, scale.of_agents)
    others = by_case(carry_out(folder, "batches", scale.one_model(_batches(scale)), part_of(progress, 0.7, 0.2)))
    trained = {
        name: LocalBatches(scale, METRIC, others[f"{name}, {scale.agents} × {scale.batch}"], others, name, (_FEW,))
        for name in OBJECTIVES
    }
    gaps = {name: local.gaps() for name, local in trained.items()}
    before = [run for run in found.runs if run.config["strategy"]["name"] != ALONE]
    described = scale.one_model(going_on(before), task=scale.task_elsewhere(), steps=max(1, scale.steps // 5))
    after = by_case(carry_out(folder, "elsewhere", described, part_of(progress, 0.9, 0.1)))
    elsewhere = Elsewhere(before, after, METRIC)
    told = ", ".join(f"{name} {value}" for name, value in scale.elsewhere.items())
    return Findings(
        title="Ensembles of pretrained networks",
        about=[
            scale.about,
            "The formulas of the paper could not be verified: the ICID loss, the heads and the selection are our"
            " reading of its abstract and of what reviews say of it. The extractors are small networks of ours, and"
            " the videos clips of photos at known distortions; verdicts are about these.",
            f"Heads take {scale.steps} steps of Adam under a rate that falls from {scale.rate:g} to a tenth. Single"
            f" models see {scale.whole} videos a step, {scale.of_heads} replicas. Networks of {scale.agents} agents"
            f" on a ring with batches of {scale.batch} have {scale.replicas}. {IID}: the training videos are dealt out"
            f" at random. {scale.apart_name.capitalize()}: an agent sees videos of one {scale.apart} only, or of none."
            " The corrections of exact diffusion and of gradient tracking are derived for plain gradients. Local SGD"
            " averages all agents every tenth step; isolated agents never. Replicas differ in initial values and"
            " samples, not in the extractors and the videos, of which intervals therefore tell nothing.",
            f"The score is Spearman's correlation (SROCC) on test videos of other contents. Without a head:"
            f" {heads.trivial}.",
            f"Marked: the objectives {BATCH} and {PLCC} are statistics of a batch, for which the gradients of"
            f" {scale.agents} batches of {scale.batch}, averaged, are not that of {scale.whole} videos. With"
            f" {FIXED} and the absolute error, the objective is a mean over videos; agents are compared under it.",
            f"Other videos, for transfer: {told}, cut from the same photos, with the extractors"
            f" and the standardisation of before; heads go on for {max(1, scale.steps // 5)} steps.",
            "Each row is a test of its own: of twenty claims without any truth, one would show by chance.",
        ],
        checks=[
            *heads.checks(),
            *_strategy_checks(found, scale),
            *elsewhere.checks(DIFFUSION, IID),
            *_batch_checks(trained, gaps),
        ],
        drawings=[
            *heads.drawings(),
            *found.drawings(),
            elsewhere.drawing(SCORE),
            draw_objective([*gaps.values()]),
            draw_batches([*trained.values()], SCORE, heads.trivial),
        ],
        sources=[
            "K. Yuan et al.: PTM-VQA: Efficient video quality assessment leveraging diverse pretrained models from the"
            " wild, CVPR 2024, pp. 2835–2845.",
            "D. L. Davies, D. W. Bouldin: A cluster separation measure, IEEE TPAMI 1 (2), 1979.",
            "Y. Cao, Z. Wu, K. Yuan, A. H. Sayed: On the trade-off between flatness and optimization in distributed"
            " learning, 2024, arXiv:2406.20006.",
        ],
    )


def _batches(scale: EnsembleScale) -> dict[str, dict[str, Any]]:
    """Return the cases of other local batches."""
    sizes = (scale.batch, _FEW)
    found = [other_batches(scale, name, sizes, **own) for name, own in OBJECTIVES.items()]
    return {name: keys for cases in found for name, keys in cases.items()}


def _strategy_checks(found: Compared, scale: EnsembleScale) -> Iterator[Check]:
    """Check what strategies and different data cost."""
    for case in (IID, scale.apart_name):
        yield found.above(NO_AGENTS, DIFFUSION, case)
        yield found.better(case)
        yield found.above(DIFFUSION, LOCAL, case)
        yield found.together(case)
        yield from found.flatter(case)
    yield from found.mended(IID, scale.apart_name)
    yield found.told()
    yield found.ordered()


def _batch_checks(trained: Mapping[str, LocalBatches], gaps: Mapping[str, Sequence[Row]]) -> Iterator[Check]:
    """Check what becomes of objectives on local batches."""
    for name, local in trained.items():
        yield local.another(gaps[name], expected=name != FIXED)
    for name, local in trained.items():
        if name == FIXED:
            continue
        (_, whole), *smaller = local.runs
        for agents, batch in smaller:
            claim = f"a batch of {whole} scores above {agents} local ones of {batch} (difference, {name})"
            yield larger(claim, local.scores(1, whole), local.scores(agents, batch))
