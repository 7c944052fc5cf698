"""Ensembles of pretrained networks: the claims of PTM-VQA, and heads that agents train together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.report.extractors import extractor_drawing
from basinet.analysis.statistics.replica_values import all_finals
from basinet.analysis.studies.flatness_tradeoff.claims import part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import larger
from basinet.analysis.studies.flatness_tradeoff.trainings import Array, by_case, carry_out
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.vision.heads_elsewhere import Elsewhere, going_on
from basinet.analysis.studies.vision.judged_extractors import draw_judgements, judge, judgement_checks
from basinet.analysis.studies.vision.local_batches import LocalBatches, draw_batches, draw_objective, other_batches
from basinet.analysis.studies.vision.scale import IID, STRATEGIES, Scale, Steps
from basinet.analysis.studies.vision.strategies_compared import (
    ALONE,
    DIFFUSION,
    LOCAL,
    NO_AGENTS,
    Compared,
    at_least,
)
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row
from basinet.sim.vision.extractors.pool import POOL

__all__ = ["SMALL", "EnsembleScale", "find_out", "pretrained_ensemble"]

_METRIC, _SCORE = "test_srocc", "SROCC on test videos"

_STATISTICS = "scene_statistics"

_FIXED, _BATCH, _PLCC = "fixed clusters", "batch clusters", "plcc"
_OBJECTIVES: dict[str, dict[str, Any]] = {
    _FIXED: {},
    _BATCH: {"clusters": "batch"},
    _PLCC: {"loss": "plcc", "icid": 0.0},
}
"""Objectives on local batches, as settings of the task. All but the first are statistics of a batch."""

_FEW = 4
"""Size of local batches that are smaller than those of the agents."""

_NONE, _BOTH = "no ICID", "plcc, batch clusters"

_WEIGHTS = {"davies_bouldin": "weights 1 / index", "learnt": "learnt weights"}


@dataclass(frozen=True)
class EnsembleScale(Scale):
    """The size of the study.

    Attributes:
        of_heads: Replicas of single models.
        top: Number of extractors that are selected.
        draws: Number of times that as many are chosen at random.
        elsewhere: Settings of the task for other videos.
    """

    of_heads: int = 8
    top: int = 3
    draws: int = 4
    elsewhere: Mapping[str, Any] | None = None

    @property
    def extractors(self) -> list[str]:
        """Names of the extractors."""
        return [*self.task.get("extractors", POOL)]

    @property
    def whole(self) -> int:
        """Videos of all agents in a step."""
        return self.agents * self.batch

    def one_model(self, cases: Mapping[str, Mapping[str, Any]], **keys: Any) -> dict[str, Any]:
        """Describe trainings of a single model.

        Args:
            cases: Keys of the experiment by the names of the cases.
            **keys: Keys that differ from the usual ones.

        Returns:
            The experiment.
        """
        usual = {"topology": {"name": "ring", "agents": 1}, "batch_size": self.whole, "evaluate_every": self.steps}
        return self.describe(cases, **usual | {"strategy": NO_AGENTS, "analysis": []} | keys)


SMALL = EnsembleScale(
    about="Clips of 80 contents, of which nine frozen extractors describe two frames each; heads of 95,233 parameters"
    " (common space of 32 dimensions). Minutes on two processors, the training of the extractors included.",
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
    described = scale.one_model(_heads(scale), replicas=scale.of_heads)
    heads = by_case(carry_out(folder, "heads", described, part_of(progress, 0, 0.4)))
    described = scale.describe(scale.conditions())
    found = Compared(carry_out(folder, "strategies", described, part_of(progress, 0.4, 0.3)), _METRIC, scale.of_agents)
    others = by_case(carry_out(folder, "batches", scale.one_model(_batches(scale)), part_of(progress, 0.7, 0.2)))
    trained = {name: LocalBatches(scale, _METRIC, others[_usual(name, scale)], others, name) for name in _OBJECTIVES}
    gaps = {name: local.gaps() for name, local in trained.items()}
    before = [run for run in found.runs if run.config["strategy"]["name"] != ALONE]
    described = scale.one_model(
        going_on(before), task={**_unchosen(scale.task), **(scale.elsewhere or {})}, steps=max(1, scale.steps // 5)
    )
    after = by_case(carry_out(folder, "elsewhere", described, part_of(progress, 0.9, 0.1)))
    elsewhere = Elsewhere(before, after, _METRIC)
    rows = judge(heads[_FIXED], {name: all_finals(heads[_single(name)], _METRIC) for name in scale.extractors})
    baselines = _baselines(heads)
    trivial = ", ".join(f"{name} {value:.3f}" for name, value in baselines.items())
    ranked = extractor_drawing([heads[_FIXED]])
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
            f"The score is Spearman's correlation (SROCC) on test videos of other contents. Without a head: {trivial}.",
            f"Marked: the objectives {_BATCH} and {_PLCC} are statistics of a batch, for which the gradients of"
            f" {scale.agents} batches of {scale.batch}, averaged, are not that of {scale.whole} videos. With"
            f" {_FIXED} and the absolute error, the objective is a mean over videos; agents are compared under it.",
            f"Other videos, for transfer: {_told(scale.elsewhere or {})}, cut from the same photos, with the extractors"
            f" and the standardisation of before; heads go on for {max(1, scale.steps // 5)} steps.",
            "Each row is a test of its own: of twenty claims without any truth, one would show by chance.",
        ],
        checks=[
            *_icid_checks(heads),
            *_ensemble_checks(heads, rows, baselines),
            *judgement_checks(rows),
            *_selection_checks(heads, scale),
            *_strategy_checks(found, scale),
            *elsewhere.checks(DIFFUSION, IID),
            *_batch_checks(trained, gaps),
        ],
        drawings=[
            *([ranked] if ranked else []),
            draw_judgements(rows, _SCORE),
            _draw_heads(heads, scale, baselines),
            *found.drawings(),
            elsewhere.drawing(_SCORE),
            draw_objective([*gaps.values()]),
            draw_batches([*trained.values()], _SCORE, trivial),
        ],
        sources=[
            "K. Yuan et al.: PTM-VQA: Efficient video quality assessment leveraging diverse pretrained models from the"
            " wild, CVPR 2024, pp. 2835–2845.",
            "D. L. Davies, D. W. Bouldin: A cluster separation measure, IEEE TPAMI 1 (2), 1979.",
            "Y. Cao, Z. Wu, K. Yuan, A. H. Sayed: On the trade-off between flatness and optimization in distributed"
            " learning, 2024, arXiv:2406.20006.",
        ],
    )


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _unchosen(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a task whose extractors are given by a file."""
    return {name: value for name, value in task.items() if name != "extractors"}


def _single(extractor: str) -> str:
    return f"{extractor} alone"


def _drawn(number: int) -> str:
    return f"random choice {number}"


def _by_ridge(scale: EnsembleScale) -> str:
    return f"best {scale.top} by ridge"


def _by_index(scale: EnsembleScale) -> str:
    return f"best {scale.top} by index"


def _usual(objective: str, scale: EnsembleScale) -> str:
    return f"{objective}, {scale.agents} × {scale.batch}"


def _heads(scale: EnsembleScale) -> dict[str, dict[str, Any]]:
    """Return the cases of single models: objectives, extractors, and weights."""
    cases = {name: {f"task.{key}": value for key, value in own.items()} for name, own in _OBJECTIVES.items()}
    cases[_NONE] = {"task.icid": 0.0}
    cases[_BOTH] = {"task.loss": "plcc", "task.clusters": "batch"}
    for weights, name in _WEIGHTS.items():
        cases[name] = {"model.weights": weights}
    for name, select in ((_by_ridge(scale), "ridge"), (_by_index(scale), "davies_bouldin")):
        cases[name] = {"task.select": select, "task.top": scale.top}
    for number in range(1, scale.draws + 1):
        chosen = np.random.default_rng(number).choice(len(scale.extractors), scale.top, replace=False)
        cases[_drawn(number)] = {"task.extractors": [scale.extractors[place] for place in sorted(chosen)]}
    for extractor in scale.extractors:
        cases[_single(extractor)] = {"task.extractors": [extractor]}
    return cases


def _batches(scale: EnsembleScale) -> dict[str, dict[str, Any]]:
    """Return the cases of other local batches."""
    cases: dict[str, dict[str, Any]] = {}
    for name, own in _OBJECTIVES.items():
        cases |= other_batches(scale, name, (scale.batch, _FEW), **own)
    return cases


def _baselines(heads: Mapping[str, Run]) -> dict[str, float]:
    """Return what predictors without a head score: the mean, and ridges on all features and on the statistics."""
    found = {name: row[_METRIC] for name, row in heads[_FIXED].status["baselines"].items()}
    own = heads[_single(_STATISTICS)].status["baselines"]
    return found | {f"ridge on {_STATISTICS}": own[f"ridge on {_STATISTICS}"][_METRIC]}


def _icid_checks(heads: Mapping[str, Run]) -> Iterator[Check]:
    """Check whether ICID is worth something."""
    for name, without in ((_FIXED, _NONE), (_BATCH, _NONE), (_BOTH, _PLCC)):
        a, b = (np.array(all_finals(heads[case], _METRIC)) for case in (name, without))
        spread = float(b.std(ddof=1)) if len(b) > 1 else 0.0
        told = f"{name} against {without}"
        yield at_least(f"ICID is not worse than none beyond the spread of replicas (difference, {told})", a, b, -spread)
        yield larger(f"ICID scores higher than none (difference, {told})", a, b)


def _ensemble_checks(heads: Mapping[str, Run], rows: Sequence[Row], baselines: Mapping[str, float]) -> Iterator[Check]:
    """Check whether an ensemble beats what is simpler."""
    whole = all_finals(heads[_FIXED], _METRIC)
    best = max(rows, key=lambda row: row["ridge_srocc"])["extractor"]
    claim = f"all extractors score above {best}, the best one by the ridge (difference)"
    yield larger(claim, whole, all_finals(heads[_single(best)], _METRIC))
    for name, value in baselines.items():
        yield at_least(f"all extractors score above the {name} (difference)", whole, [value] * len(whole), 0.0)


def _selection_checks(heads: Mapping[str, Run], scale: EnsembleScale) -> Iterator[Check]:
    """Check whether selection and weights are worth something."""

    def score(name: str) -> Array:
        return np.array(all_finals(heads[name], _METRIC))

    drawn = [score(_drawn(number)) for number in range(1, scale.draws + 1)]
    chance: ArrayLike = np.mean(drawn, axis=0)
    index, ridge, whole = score(_by_index(scale)), score(_by_ridge(scale)), score(_FIXED)
    told = f"the mean of {scale.draws} random choices"
    for name, chosen in ((_by_index(scale), index), (_by_ridge(scale), ridge)):
        yield larger(f"the {name} score above {told} of as many (difference)", chosen, chance)
    yield larger(f"the {_by_ridge(scale)} score above the {_by_index(scale)} (difference)", ridge, index)
    for name, chosen in ((_by_index(scale), index), (_by_ridge(scale), ridge)):
        yield larger(f"the {name} score above all (difference)", chosen, whole)
    for name in _WEIGHTS.values():
        yield larger(f"{name} score above equal ones (difference)", score(name), whole)


def _strategy_checks(found: Compared, scale: EnsembleScale) -> Iterator[Check]:
    """Check what strategies and different data cost."""
    for case in (IID, scale.apart_name):
        yield found.above(NO_AGENTS, DIFFUSION, case)
        yield found.better(case)
        yield found.above(DIFFUSION, LOCAL, case)
        yield found.together(case)
        yield from found.flatter(case)
    yield from found.mended(IID, scale.apart_name)
    yield found.ordered()


def _batch_checks(trained: Mapping[str, LocalBatches], gaps: Mapping[str, Sequence[Row]]) -> Iterator[Check]:
    """Check what becomes of objectives on local batches."""
    for name, local in trained.items():
        yield local.another(gaps[name], expected=name != _FIXED)
    for name, local in trained.items():
        if name == _FIXED:
            continue
        (_, whole), *smaller = local.runs
        for agents, batch in smaller:
            claim = f"a batch of {whole} scores above {agents} local ones of {batch} (difference, {name})"
            yield larger(claim, local.scores(1, whole), local.scores(agents, batch))


def _draw_heads(heads: Mapping[str, Run], scale: EnsembleScale, baselines: Mapping[str, float]) -> Drawing:
    """Draw scores by objective, by selection and by single extractor."""
    panels = {
        "all extractors": [*_OBJECTIVES, _NONE, _BOTH, *_WEIGHTS.values()],
        f"{scale.top} of them": [
            _by_ridge(scale),
            _by_index(scale),
            *(_drawn(number) for number in range(1, scale.draws + 1)),
        ],
        "one of them": [_single(name) for name in scale.extractors],
    }
    rows = [
        {"panel": panel, "heads": name, "replica": replica, "score": score, **baselines}
        for panel, names in panels.items()
        for name in names
        for replica, score in enumerate(all_finals(heads[name], _METRIC))
    ]
    figure, axes = grid(len(panels), share_x=True, share_y=False, height=1 + 0.25 * max(map(len, panels.values())))
    ridge = baselines["ridge on all features"]
    for ax, (panel, names) in zip(axes, panels.items(), strict=True):
        own = [row for row in rows if row["panel"] == panel]
        ax.plot([row["score"] for row in own], [names.index(row["heads"]) for row in own], "o", fillstyle="none")
        ax.axvline(ridge, linewidth=0.8, color="grey")
        ax.set_yticks(range(len(names)), [name.removesuffix(" alone") for name in names])
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_title(panel, fontsize="medium")
        ax.set_xlabel(_SCORE)
    trivial = ", ".join(f"{name} {value:.3f}" for name, value in baselines.items())
    return Drawing(
        "heads",
        "Scores by objective, selection and extractor",
        f"Each mark is a replica of a single model. The line is the ridge on all features. Without a head: {trivial}.",
        figure,
        rows,
    )
