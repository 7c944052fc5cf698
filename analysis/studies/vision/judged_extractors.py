"""How frozen extractors are judged without training on them, beside what they turn out to be worth."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import legend_below_panels
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import styles
from basinet.analysis.runs.solution import Solution
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row
from basinet.sim.tasks.vision.ensemble.extractor_ranking import davies_bouldin
from basinet.sim.tasks.vision.ensemble.icid import cluster_edges, clusters_of
from basinet.sim.tasks.vision.ensemble.pretrained_ensemble import PretrainedEnsemble
from basinet.sim.tasks.vision.quality.statistics_ridge import Standard
from basinet.sim.vision.extractors.pool import NEGATIVE, POSITIVE

__all__ = ["JUDGEMENTS", "agreement", "draw_judgements", "judge", "judgement_checks", "rank_correlation"]

JUDGEMENTS = {
    "davies_bouldin": "Davies–Bouldin index, content removed",
    "davies_bouldin_of_all": "Davies–Bouldin index, content not removed",
    "ridge_srocc": "SROCC of a ridge in cross-validation",
}
"""What extractors are judged by, by the columns of the rows that `judge` returns."""

_RESAMPLES = 20_000


def judge(run: Run, scores: Mapping[str, Sequence[float]]) -> list[Row]:
    """Judge the extractors of a run by its training videos, beside what heads on one of them score in tests.

    Args:
        run: A run that uses all of them.
        scores: Scores of heads on a single extractor by its name, one per replica.

    Returns:
        A row for each: the `extractor`, the three judgements, and the mean `score`.
    """
    found = once("extractors", partial(_judge, run), config=run.config)
    return [{**row, "score": float(np.mean(scores[row["extractor"]]))} for row in found]


def _judge(run: Run) -> list[Row]:
    task: Any = Solution(run.path, 0, "float32").task
    assert isinstance(task, PretrainedEnsemble)
    *features, scores = task.train
    clusters = clusters_of(scores, cluster_edges(scores, task.clusters))
    rows = []
    for extractor, part in zip(task.chosen.used, features, strict=True):
        means = part.double().mean(1)
        index = davies_bouldin(Standard.of(means)(means), clusters)
        rows.append({
            "extractor": extractor.name,
            "davies_bouldin": extractor.davies_bouldin,
            "davies_bouldin_of_all": index,
            "ridge_srocc": extractor.ridge_srocc,
        })  # fmt: skip
    return rows


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Compute Spearman's correlation.

    Args:
        a: Values, [n].
        b: Other values, [n].

    Returns:
        The correlation; NaN if all values are equal, or there are fewer than two.
    """
    from scipy.stats import rankdata  # which takes long to import

    x, y = (rankdata(values) - rankdata(values).mean() for values in (a, b))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else float("nan")


def agreement(claim: str, a: ArrayLike, b: ArrayLike) -> Check:
    """Check that two rankings agree better than by chance.

    Args:
        claim: The claim in words.
        a: Values, [n].
        b: Values that should rank alike, [n].

    Returns:
        The check, by permutations of one of them.
    """
    found, x, y = rank_correlation(a, b), np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    random = np.random.default_rng(0)
    chance = _correlations(x, random.permuted(np.tile(y, (_RESAMPLES, 1)), axis=1))
    p = (1 + int((chance >= found - 1e-9).sum())) / (1 + _RESAMPLES)
    reversed_ = (1 + int((chance <= found + 1e-9).sum())) / (1 + _RESAMPLES) < 0.05
    rule = "p < 0.05, one-sided, by permutations"
    measured = f"{found:.2f}, p = {p:.2g}"
    return Check(claim, "above 0", measured, rule, p < 0.05, "reversed" if reversed_ else "not shown")


def _correlations(x: Any, others: Any) -> Any:
    from scipy.stats import rankdata

    a, b = rankdata(x), rankdata(others, axis=1)
    a, b = a - a.mean(), b - b.mean(1, keepdims=True)
    return (b @ a) / np.maximum(np.sqrt((a @ a) * (b * b).sum(1)), 1e-12)


def judgement_checks(rows: Sequence[Row]) -> Iterator[Check]:
    """Check whether judgements agree with each other and with scores, and where the controls land.

    Args:
        rows: What `judge` returns.

    Yields:
        The checks.
    """
    ridge, score = ([row[name] for row in rows] for name in ("ridge_srocc", "score"))
    for name in ("davies_bouldin", "davies_bouldin_of_all"):
        index, told = [-row[name] for row in rows], JUDGEMENTS[name]
        yield agreement(
            f"a smaller index goes with a larger correlation of a ridge (rank correlation, {told})", index, ridge
        )
        yield agreement(
            f"a smaller index goes with a larger score of a head on the extractor (rank correlation, {told})",
            index,
            score,
        )
    claim = "a larger correlation of a ridge goes with a larger score of a head on the extractor (rank correlation)"
    yield agreement(claim, ridge, score)
    names = [row["extractor"] for row in rows]
    third = max(1, len(rows) // 3)
    for name, told in JUDGEMENTS.items():
        order = _order(rows, name)
        if POSITIVE in names:
            place = order.index(POSITIVE) + 1
            yield Check(
                f"the positive control, {POSITIVE}, is among the best third ({told})",
                f"place 1 to {third}", f"{place} of {len(rows)}", "by its place", place <= third, "no",
            )  # fmt: skip
        if NEGATIVE in names:
            place = order.index(NEGATIVE) + 1
            first = len(rows) - third + 1
            yield Check(
                f"the negative control, {NEGATIVE}, is among the worst third ({told})",
                f"place {first} to {len(rows)}", f"{place} of {len(rows)}", "by its place", place >= first, "no",
            )  # fmt: skip


def _order(rows: Sequence[Row], judgement: str) -> list[str]:
    """List the extractors, the best one first."""
    sign = -1 if judgement == "ridge_srocc" else 1
    return [row["extractor"] for row in sorted(rows, key=lambda row: sign * row[judgement])]


def draw_judgements(rows: list[Row], label: str) -> Drawing:
    """Draw what extractors score against how they are judged.

    Args:
        rows: What `judge` returns.
        label: What the score is called.

    Returns:
        The drawing.
    """
    looks = styles(row["extractor"] for row in rows)
    figure, axes = grid(len(JUDGEMENTS), share_x=False, share_y=True)
    for ax, (name, told) in zip(axes, JUDGEMENTS.items(), strict=True):
        for row in rows:
            look = looks[row["extractor"]]
            ax.plot(
                [row[name]], [row["score"]],
                label=_named(row["extractor"]), color=look.color, marker=look.marker, linestyle="",
            )  # fmt: skip
        ax.set_xlabel(told)
    axes[0].set_ylabel(label)
    legend_below_panels(figure, *axes[0].get_legend_handles_labels())
    return Drawing(
        "judgements",
        "Scores of single extractors against how they are judged",
        f"Each mark is an extractor: the mean score of heads on it alone, on test videos, against what the training"
        f" videos say of it. A small index is to be good. Of the controls, {POSITIVE} has learnt to tell a distortion,"
        f" and {NEGATIVE} nothing.",
        figure,
        rows,
    )


def _named(extractor: str) -> str:
    """Name an extractor with what it is a control for."""
    kind = {POSITIVE: "positive control", NEGATIVE: "negative control"}.get(extractor)
    return f"{extractor} ({kind})" if kind else extractor
