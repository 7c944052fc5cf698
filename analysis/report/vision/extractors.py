"""The figure and the table of how frozen extractors were judged."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import finish_panels, grid
from basinet.analysis.drawing.style import GREY, ink
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.run.folder import Run, RunFolder
from basinet.sim.run.records import Row
from basinet.sim.tasks.vision.ensemble.chosen_extractors import Chosen
from basinet.sim.vision.extractors.extracted import CLIP
from basinet.sim.vision.extractors.pool import NEGATIVE, POSITIVE

__all__ = ["extractor_drawing"]

_log = logging.getLogger(__name__)

_CONTROLS = {POSITIVE: "positive control", NEGATIVE: "negative control"}

_CAPTION = (
    "How frozen extractors tell quality, by the training videos: the Davies–Bouldin index of clusters of annotated"
    " quality in their features, from which the mean of each content is subtracted if contents are known; and"
    " Spearman's correlation of the scores and of a ridge on the features, for videos that are left out. The positive"
    " control has learnt to tell a distortion, and the negative control nothing. Grey: extractors that are not used."
)


def extractor_drawing(runs: Sequence[Run]) -> Drawing | None:
    """Draw both rankings of the extractors of an ensemble.

    Args:
        runs: The runs; the extractors are those of the first that has any.

    Returns:
        The figure; None if no run has extractors.
    """
    tables = [rows for rows in map(_rows, runs) if rows]
    if not tables:
        return None
    rows = tables[0]
    others = sum(table != rows for table in tables)
    caption = _CAPTION + (f" Judged or chosen otherwise: {others} of {len(tables)} runs." if others else "")
    figure, axes = grid(2, share_x=False, share_y=True, height=1 + 0.25 * len(rows))
    colors = [ink() if row["selected"] else GREY for row in rows]
    for ax, name, label in zip(axes, _LABELS, _LABELS.values(), strict=True):
        ax.barh(range(len(rows)), [row[name] for row in rows], color=colors, height=0.6)
        ax.set_xlabel(label)
        ax.axvline(0, color=ink(), linewidth=0.8)
    axes[0].set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes[0].invert_yaxis()
    finish_panels(figure, axes, share_x=False)
    return Drawing("extractors", "Extractors", caption, figure, rows, _finding(rows), _table(rows))


_LABELS = {"davies_bouldin": "Davies–Bouldin index ↓", "ridge_srocc": "SROCC of a ridge ↑"}


def _rows(run: Run) -> list[Row]:
    """List the extractors of a run with their places in both rankings, the best by the ridge first."""
    file = RunFolder(run.path).kept_of_task("standards")
    if not file.exists():
        return []
    try:
        ranked = Chosen.read(file).ranked
    except ValueError as error:
        _log.warning("extractors are not drawn: %s", error)
        return []
    by_index = sorted(ranked, key=lambda extractor: extractor.davies_bouldin)
    # NaN, if there is nothing to leave out, is sorted last.
    by_ridge = sorted(ranked, key=lambda e: math.inf if math.isnan(e.ridge_srocc) else -e.ridge_srocc)
    return [
        {
            "extractor": extractor.name,
            "control": _CONTROLS.get(extractor.name.removesuffix(CLIP), ""),
            "features": extractor.length,
            "davies_bouldin": extractor.davies_bouldin,
            "davies_bouldin_rank": by_index.index(extractor) + 1,
            "ridge_srocc": extractor.ridge_srocc,
            "ridge_rank": place,
            "selected": extractor.selected,
        }
        for place, extractor in enumerate(by_ridge, 1)
    ]


def _label(row: Row) -> str:
    return f"{row['extractor']} ({row['control']})" if row["control"] else str(row["extractor"])


def _finding(rows: Sequence[Row]) -> str:
    best = min(rows, key=lambda row: row["davies_bouldin_rank"])
    found = f"Of {count_of(len(rows), 'extractor')}, {best['extractor']} has the smallest Davies–Bouldin index"
    has_ridge = not math.isnan(rows[0]["ridge_srocc"])
    if has_ridge:
        found += f", and {rows[0]['extractor']} the largest correlation"
    for row in rows:
        if row["control"]:
            found += f"; the {row['control']}, {row['extractor']}, is number {row['davies_bouldin_rank']} by the index"
            found += f" and {row['ridge_rank']} by the ridge" if has_ridge else ""
    return f"{found}."


def _table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Format the rankings."""
    index, ridge = _LABELS.values()
    headings = ["", "extractor", "features", index, "rank by the index", ridge, "rank by the ridge"]
    cells: list[Any] = [
        [
            "used" if row["selected"] else "not used",
            _label(row),
            str(row["features"]),
            f"{row['davies_bouldin']:.2f}",
            str(row["davies_bouldin_rank"]),
            f"{row['ridge_srocc']:.3f}",
            str(row["ridge_rank"]),
        ]
        for row in sorted(rows, key=lambda row: not row["selected"])
    ]
    return headings, cells
