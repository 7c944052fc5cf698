"""Heads on frozen extractors: with and without ICID, on all of them, on one, and on those that are selected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.report.vision.extractors import extractor_drawing
from basinet.analysis.statistics.replica_values import all_finals
from basinet.analysis.studies.flatness_tradeoff.comparisons import larger
from basinet.analysis.studies.flatness_tradeoff.trainings import Array
from basinet.analysis.studies.study import Check
from basinet.analysis.studies.vision.judged_extractors import draw_judgements, judge, judgement_checks
from basinet.analysis.studies.vision.scale import Scale
from basinet.analysis.studies.vision.strategies_compared import NO_AGENTS, at_least
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row
from basinet.sim.vision.extractors.pool import POOL

__all__ = ["BATCH", "FIXED", "METRIC", "OBJECTIVES", "PLCC", "SCORE", "EnsembleScale", "Heads"]

METRIC, SCORE = "test_srocc", "SROCC on test videos"
"""What heads are compared by, and what it is called."""

FIXED, BATCH, PLCC = "fixed clusters", "batch clusters", "plcc"
OBJECTIVES: dict[str, dict[str, Any]] = {
    FIXED: {},
    BATCH: {"clusters": "batch"},
    PLCC: {"loss": "plcc", "icid": 0.0},
}
"""Settings of the task by objective. All but the first are statistics of a batch."""

_NONE, _BOTH = "no ICID", "plcc, batch clusters"

_WEIGHTS = {"davies_bouldin": "weights 1 / index", "learnt": "learnt weights"}

_STATISTICS = "scene_statistics"


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
    elsewhere: Mapping[str, Any] = field(default_factory=dict)

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

    def task_elsewhere(self) -> dict[str, Any]:
        """Return the settings of the task for other videos, whose extractors a file gives."""
        return {name: value for name, value in {**self.task, **self.elsewhere}.items() if name != "extractors"}

    @property
    def by_ridge(self) -> str:
        """The case of the extractors that are best by the ridge."""
        return f"best {self.top} by ridge"

    @property
    def by_index(self) -> str:
        """The case of the extractors that are best by the index."""
        return f"best {self.top} by index"

    @property
    def drawn(self) -> dict[str, list[str]]:
        """Extractors that are chosen at random, by case."""
        found = {}
        for number in range(1, self.draws + 1):
            places = np.random.default_rng(number).choice(len(self.extractors), self.top, replace=False)
            found[f"random choice {number}"] = [self.extractors[place] for place in sorted(places)]
        return found

    def heads(self) -> dict[str, dict[str, Any]]:
        """Return the cases of heads that are compared: objectives, weights, and extractors.

        Returns:
            Keys of the experiment by the names of the cases.
        """
        cases = {name: {f"task.{key}": value for key, value in own.items()} for name, own in OBJECTIVES.items()}
        cases[_NONE] = {"task.icid": 0.0}
        cases[_BOTH] = {"task.loss": "plcc", "task.clusters": "batch"}
        for weights, name in _WEIGHTS.items():
            cases[name] = {"model.weights": weights}
        for name, select in ((self.by_ridge, "ridge"), (self.by_index, "davies_bouldin")):
            cases[name] = {"task.select": select, "task.top": self.top}
        for name, chosen in self.drawn.items():
            cases[name] = {"task.extractors": chosen}
        for extractor in self.extractors:
            cases[_single(extractor)] = {"task.extractors": [extractor]}
        return cases


def _single(extractor: str) -> str:
    return f"{extractor} alone"


@dataclass(frozen=True)
class Heads:
    """Finished trainings of single models, the cases of `EnsembleScale.heads`.

    Attributes:
        runs: The trainings by their cases.
        scale: The size of the study.
    """

    runs: Mapping[str, Run]
    scale: EnsembleScale

    def score(self, case: str) -> Array:
        """Return the final score of a case, one per replica."""
        return np.array(all_finals(self.runs[case], METRIC))

    @cached_property
    def judged(self) -> list[Row]:
        """How extractors are judged, beside the scores of heads on each; see `judge`."""
        scores = {name: self.score(_single(name)).tolist() for name in self.scale.extractors}
        return judge(self.runs[FIXED], scores)

    @cached_property
    def baselines(self) -> dict[str, float]:
        """What predictors without a head score: the mean, and ridges on all features and on the statistics."""
        found = {name: row[METRIC] for name, row in self.runs[FIXED].status["baselines"].items()}
        own = self.runs[_single(_STATISTICS)].status["baselines"]
        return found | {f"ridge on {_STATISTICS}": own[f"ridge on {_STATISTICS}"][METRIC]}

    @property
    def trivial(self) -> str:
        """The baselines in words."""
        return ", ".join(f"{name} {value:.3f}" for name, value in self.baselines.items())

    def checks(self) -> Iterator[Check]:
        """Check what ICID, an ensemble, judgements of extractors, selection and weights are worth.

        Yields:
            The checks.
        """
        yield from self._icid()
        yield from self._ensemble()
        yield from judgement_checks(self.judged)
        yield from self._selection()

    def _icid(self) -> Iterator[Check]:
        for name, without in ((FIXED, _NONE), (BATCH, _NONE), (_BOTH, PLCC)):
            a, b = self.score(name), self.score(without)
            spread = float(f"{b.std(ddof=1):.2g}") if len(b) > 1 else 0.0
            told = f"{name} against {without}"
            claim = f"ICID is not worse than none beyond the spread of replicas (difference, {told})"
            yield at_least(claim, a, b, -spread)
            yield larger(f"ICID scores higher than none (difference, {told})", a, b)

    def _ensemble(self) -> Iterator[Check]:
        whole = self.score(FIXED)
        best = max(self.judged, key=lambda row: row["ridge_srocc"])["extractor"]
        claim = f"all extractors score above {best}, the best one by the ridge (difference)"
        yield larger(claim, whole, self.score(_single(best)))
        for name, value in self.baselines.items():
            yield at_least(f"all extractors score above the {name} (difference)", whole, [value] * len(whole), 0.0)

    def _selection(self) -> Iterator[Check]:
        scale, whole = self.scale, self.score(FIXED)
        chance = np.mean([self.score(name) for name in scale.drawn], axis=0)
        chosen = {name: self.score(name) for name in (scale.by_index, scale.by_ridge)}
        told = f"the mean of {scale.draws} random choices of as many"
        for name, scores in chosen.items():
            yield larger(f"the {name} score above {told} (difference)", scores, chance)
        index, ridge = chosen.values()
        yield larger(f"the {scale.by_ridge} score above the {scale.by_index} (difference)", ridge, index)
        for name, scores in chosen.items():
            yield larger(f"the {name} score above all (difference)", scores, whole)
        for name in _WEIGHTS.values():
            yield larger(f"{name} score above equal ones (difference)", self.score(name), whole)

    def drawings(self) -> list[Drawing]:
        """Draw both rankings, scores against judgements, and scores by objective, selection and extractor."""
        ranked = extractor_drawing([self.runs[FIXED]])
        return [*([ranked] if ranked else []), draw_judgements(self.judged, SCORE), self._drawing()]

    def _drawing(self) -> Drawing:
        scale = self.scale
        panels = {
            "all extractors": [*OBJECTIVES, _NONE, _BOTH, *_WEIGHTS.values()],
            f"{scale.top} of them": [scale.by_ridge, scale.by_index, *scale.drawn],
            "one of them": [_single(name) for name in scale.extractors],
        }
        rows = [
            {"panel": panel, "heads": name, "replica": replica, "score": score, **self.baselines}
            for panel, names in panels.items()
            for name in names
            for replica, score in enumerate(self.score(name).tolist())
        ]
        figure, axes = grid(len(panels), share_x=True, share_y=False, height=1 + 0.25 * max(map(len, panels.values())))
        for ax, (panel, names) in zip(axes, panels.items(), strict=True):
            own = [row for row in rows if row["panel"] == panel]
            ax.plot([row["score"] for row in own], [names.index(row["heads"]) for row in own], "o", fillstyle="none")
            ax.axvline(self.baselines["ridge on all features"], linewidth=0.8, color="grey")
            ax.set_yticks(range(len(names)), [name.removesuffix(" alone") for name in names])
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_title(panel, fontsize="medium")
            ax.set_xlabel(SCORE)
        return Drawing(
            "heads",
            "Scores by objective, selection and extractor",
            "Each mark is a replica of a single model. The line is the ridge on all features. Without a head:"
            f" {self.trivial}.",
            figure,
            rows,
        )
