"""The figure of scores that runs give test samples, against the true ones."""

import logging
from collections.abc import Sequence
from math import isfinite

from matplotlib.axes import Axes

from basinet.analysis.challenges.video_protocol import plcc, srocc
from basinet.analysis.drawing.choice import WIDE
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import finish_panels, grid
from basinet.analysis.drawing.style import GREY, Style, styles
from basinet.analysis.runs.ratings_of_runs import rates, rating_rows
from basinet.analysis.runs.solution import replicas_of
from basinet.analysis.statistics.ranking import leaders
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["rating_drawing"]

_log = logging.getLogger(__name__)

_MOST = 6
"""Most runs whose scores are drawn."""

_MOST_SAMPLES = 256
"""Most samples that each run rates, which bounds the time."""


def rating_drawing(runs: Sequence[Run]) -> Drawing | None:
    """Draw predicted against true scores of all test samples.

    Args:
        runs: The runs; of many, the best of each strategy are drawn.

    Returns:
        The figure; None if no run rates anything, if a score is not finite, or if what runs were trained on is not
        there any more.
    """
    ran = [run for run in runs if rates(run) and replicas_of(run)]
    count = len(ran)
    if count > _MOST:
        ran = [ran[place] for place in leaders(ran)[:_MOST]]
    try:
        rows = rating_rows(ran, _MOST_SAMPLES)
    except (ExperimentError, ImportError, OSError) as error:
        _log.warning("predicted scores are not drawn: %s", error)
        return None
    if not rows or not all(isfinite(row["predicted"]) for row in rows):
        return None
    looks = styles(row["label"] for row in rows)
    figure, axes = grid(len(looks), share_x=True, share_y=True, width=WIDE / min(3, len(looks)), height=3.0)
    ends = [end(row["truth"] for row in rows) for end in (min, max)]
    found = []
    for ax, (label, look) in zip(axes, looks.items(), strict=True):
        mine = [row for row in rows if row["label"] == label]
        numbers = _draw(ax, mine, look, ends)
        ax.set_title(f"{label}\n{numbers}", fontsize="small")
        found.append(f"{label}: {numbers}")
    finish_panels(figure, axes, share_x=True)
    shown, total = sum(row["label"] == rows[0]["label"] for row in rows), rows[0]["samples"]
    which = "all test samples" if shown == total else f"{shown} of {total} test samples, evenly spaced,"
    caption = (
        f"Predicted scores of {which} against the true ones, by the centroid of the first replica that did not diverge."
        " On the grey line, both are equal."
    )
    if count > len(ran):
        caption += f" Drawn: {len(ran)} of {count} runs, the best of each strategy."
    return Drawing("ratings", "Predicted and true scores", caption, figure, rows, f"{'; '.join(found)}.")


def _draw(ax: Axes, rows: Sequence[Row], look: Style, ends: Sequence[float]) -> str:
    """Draw the scores of a run; return their correlations, in words."""
    truth, predicted = ([row[name] for row in rows] for name in ("truth", "predicted"))
    ax.plot(ends, ends, color=GREY, linewidth=1)
    ax.plot(
        truth, predicted, linestyle="", marker=look.marker, color=look.color, markersize=4, alpha=0.5, markeredgewidth=0
    )
    ax.set_xlabel("true score")
    ax.set_ylabel("predicted score")
    ax.grid(alpha=0.25)
    return f"SROCC {float(srocc(predicted, truth)):.2f}, PLCC {float(plcc(predicted, truth)):.2f}"
