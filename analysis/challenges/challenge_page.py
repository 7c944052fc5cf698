"""A leaderboard in files: tables, a figure and a page."""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from basinet.analysis.challenges.leaderboard import Leaderboard
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.layout import Fitted, Sheet
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.style import ACCENT, GREY, MAIN, ink
from basinet.analysis.report.page import figure_html, list_html, table_html, text_html, write_page
from basinet.analysis.statistics.summary import write_csv
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.files import is_leftover, write_atomically

__all__ = ["check_place", "draw_ranking", "write_leaderboard"]

_TEMPLATE = Path(__file__).parents[1] / "report" / "challenge_template.html"
_ALL = "challenge.json"


def check_place(folder: Path) -> None:
    """Raise if a folder cannot take a leaderboard.

    Args:
        folder: The folder.

    Raises:
        ExperimentError: It is a file, or holds something other than a leaderboard.
    """
    if folder.exists() and not folder.is_dir():
        raise ExperimentError(f"--out: {folder} is a file; choose a folder")
    if folder.exists() and not (folder / _ALL).exists() and any(not is_leftover(path) for path in folder.iterdir()):
        raise ExperimentError(f"--out: {folder} holds something other than a leaderboard; choose another folder")


def draw_ranking(board: Leaderboard) -> Figure:
    """Draw the number that ranks, and how far it is below that of the first, with intervals.

    Args:
        board: The leaderboard.

    Returns:
        The figure, not managed by pyplot: the best submission at the top; filled are the differences that carry. What
        is infinite is not drawn.
    """
    names = [entry.name for entry in board.entries]
    several = len(names) > 1
    figure = Sheet(figsize=(9.0 if several else 6.0, 1.2 + 0.3 * len(names)), layout=Fitted())
    left, *others = figure.subplots(1, 1 + several, sharey=True, squeeze=False)[0]
    heading = board.challenge.headings[board.by]
    for place, row in enumerate(board.rows()):
        _mark(left, place, [row[f"{board.by}{end}"] for end in ("", "_low", "_high")], color=ink(), marker="D")
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_xlabel(heading)
    for ax in others:
        ax.axvline(0, color=GREY, linewidth=0.8)
        looks = {
            True: {"color": MAIN, "marker": "o", "label": "carries"},
            False: {"color": ACCENT, "marker": "s", "markerfacecolor": "none", "label": "not shown"},
        }
        for gap in board.gaps[: len(names) - 1]:
            _mark(ax, names.index(gap.other), [gap.difference, gap.low, gap.high], **looks[gap.carries])
            looks[gap.carries].pop("label", None)
        ax.set_xlabel(f"{heading}, below the first")
        outside_legend(ax)
    for ax in figure.axes:
        ax.grid(alpha=0.25, axis="x")
    return figure


def _mark(ax: Axes, place: int, values: Sequence[float | None], *, color: str, **look: Any) -> None:
    """Draw a value and its interval."""
    value, *ends = (math.nan if value is None or math.isinf(value) else value for value in values)
    ax.plot(ends, [place, place], color=color, linewidth=1.6)
    ax.plot([value], [place], color=color, linestyle="none", **look)


def write_leaderboard(board: Leaderboard, folder: Path) -> Path:
    """Write a leaderboard.

    Args:
        board: The leaderboard.
        folder: Receives `ranking.csv`, `differences.csv`, `images.csv` or `videos.csv`, `challenge.json`, the figure,
            and `report.html`.

    Returns:
        The page.
    """
    challenge = board.challenge
    write_csv([*board.rows(), *board.baseline_rows()], folder / "ranking.csv")
    write_csv(board.gap_rows(), folder / "differences.csv")
    write_csv(board.item_rows(), folder / f"{challenge.item}s.csv")
    write_atomically(folder / _ALL, json.dumps(board.as_json(), indent=1, ensure_ascii=False) + "\n")
    header, cells = board.cells()
    best = cells[0]
    lead = f"{best[1]} is first of {len(board.entries)}: {best[2]} {challenge.headings[board.by]}."
    intervals = ", with 95 % intervals by the bootstrap" if board.count > 1 else ""
    caption = (
        f"{challenge.headings[board.by]} of {board.items}{intervals}."
        f" Differences vary less than the numbers, since all submissions share the {challenge.item}s."
    )
    drawing = Drawing("ranking", "Ranking", caption, draw_ranking(board), board.rows(), lead)
    refused = [f"{name}: {sentence}" for name, sentences in board.refused.items() for sentence in sentences]
    published = challenge.published
    table = table_html(published.columns, published.rows, numbers=range(1, 6)) if published.rows else ""
    parts = {
        "title": escape(challenge.title),
        "lead": text_html(lead),
        "ranking": table_html(header, cells, numbers=range(2, 2 + len(challenge.headings))),
        "figure": figure_html(drawing, folder / "figures"),
        "differences": _differences(board),
        "how": list_html(board.how()),
        "refused": f"<h2>Refused</h2>\n{list_html(refused)}" if refused else "",
        "published": f"<p>{text_html(published.about)}</p>\n{table}",
        "item": challenge.item,
    }
    return write_page(folder / "report.html", _TEMPLATE, parts)


def _differences(board: Leaderboard) -> str:
    if not board.gaps:
        return "<p>There is a single submission.</p>"
    rows = []
    for gap in board.gaps:
        ends = " to ".join(board.written(board.by, end) for end in (gap.low, gap.high))
        verdict = "carries" if gap.carries else "not shown"
        amount = board.written(board.by, gap.difference)
        rows.append([f"{gap.better} − {gap.other}", amount, ends if board.count > 1 else "–", f"{gap.p:.2g}", verdict])
    return table_html(["pair", "difference", "95 % interval", "p", "verdict"], rows, numbers=(1, 2, 3))
