"""The report of an experiment: one page that can be sent to someone, and the files it was made from."""

import base64
import io
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import matplotlib
import yaml

from basinet.analysis.paired import paired_differences
from basinet.analysis.plots.gallery import Drawing, gallery
from basinet.analysis.plots.names import describe, names
from basinet.analysis.plots.style import axis_label
from basinet.analysis.summary import (
    HEADINGS,
    cells,
    finals,
    incidents,
    strategy_label,
    write_csv,
    write_summary,
)
from basinet.sim.folder import FINISHED, Run, load_runs, write_atomically

__all__ = ["write_report"]

_TEMPLATE = Path(__file__).with_name("report_template.html")


def write_report(folder: str | Path) -> Path:
    """Write the report of an experiment, finished or not.

    Args:
        folder: The folder that `basinet run` wrote, or that of a single run. It receives `summary.csv`,
            `figures/NAME.png`, `.svg` and `.csv`, and `report.html`, which needs no other file.

    Returns:
        The page.
    """
    folder = Path(folder)
    runs = load_runs(folder)
    source = folder / "experiment.yaml"
    source = source if source.exists() else folder / "config.yaml"
    experiment: dict[str, Any] = yaml.safe_load(source.read_text())
    planned = experiment.pop("runs", None) or [run.name for run in runs]
    versions = experiment.pop("versions", None) or {}
    about = str(experiment.pop("about", None) or "").strip()
    write_summary(runs, folder / "summary.csv")
    figures = [_figure(drawing, folder / "figures") for drawing in gallery(runs)]
    name = folder.resolve().name
    command = f"basinet run {shlex.quote(f'{name}/{source.name}')} --out {shlex.quote(f'{name}-again')}"
    parts = {
        "title": escape(name),
        "lead": escape(_lead(runs, len(planned))),
        "about": f'<p class="about">{escape(about)}</p>' if about else "",
        "incidents": _incidents(runs, [name for name in planned if name not in {run.name for run in runs}]),
        "summary": _summary(runs),
        "differences": _differences(runs),
        "figures": "\n".join(figures) or "<p>There is nothing to draw yet.</p>",
        "experiment": _experiment(experiment),
        "descent": escape(_descent(runs)),
        "command": escape(command),
        "versions": escape(", ".join(f"{key} {value}" for key, value in versions.items()) or "not recorded"),
    }
    page = folder / "report.html"
    write_atomically(page, Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(parts))
    return page


def _figure(drawing: Drawing, folder: Path) -> str:
    write_csv(drawing.rows, folder / f"{drawing.name}.csv")
    layout = drawing.figure.get_layout_engine()
    if layout is not None:  # laid out once for both files: this takes longer than to draw
        layout.execute(drawing.figure)
        drawing.figure.set_layout_engine("none")
    png, svg = io.BytesIO(), io.BytesIO()
    drawing.figure.savefig(png, format="png", dpi=130)
    with matplotlib.rc_context({"svg.hashsalt": "basinet"}):  # nothing depends on when it was written
        drawing.figure.savefig(svg, format="svg", metadata={"Date": None})
    write_atomically(folder / f"{drawing.name}.png", png.getvalue())
    write_atomically(folder / f"{drawing.name}.svg", svg.getvalue())
    data = base64.b64encode(png.getvalue()).decode()
    return (
        f'<h3>{escape(drawing.title)}</h3>\n<figure><img alt="{escape(drawing.title)}" '
        f'src="data:image/png;base64,{data}">\n<figcaption>{escape(drawing.caption)}</figcaption></figure>'
    )


def _lead(runs: Sequence[Run], planned: int) -> str:
    finished = sum(run.status.get("state") in FINISHED for run in runs)
    strategies = ", ".join(dict.fromkeys(strategy_label(run.config) for run in runs))
    return f"{finished} of {planned} {'run' if planned == 1 else 'runs'} finished. Strategies: {strategies}."


def _incidents(runs: Sequence[Run], missing: Sequence[str]) -> str:
    sentences = incidents(runs) + [f"{name}: not started." for name in missing]
    return f'<div class="alert">{_list(sentences)}</div>' if sentences else ""


def _list(sentences: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "\n</ul>"


def _summary(runs: Sequence[Run]) -> str:
    headings, rows = cells(runs)
    return _table(headings, rows, numbers=range(2, len(headings)))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: range) -> str:
    """Write a table without the columns that are empty in every row."""
    shown = [column for column in range(len(headings)) if any(row[column] for row in rows)]

    def line(tag: str, texts: Sequence[str]) -> str:
        kinds = [' class="number"' if column in numbers else "" for column in shown]
        cells = [f"<{tag}{kind}>{escape(texts[column])}</{tag}>" for kind, column in zip(kinds, shown, strict=True)]
        return f"<tr>{''.join(cells)}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    table = f"<table>\n<thead>{line('th', headings)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return f'<div class="scroll numbers">{table}</div>'


def _differences(runs: Sequence[Run]) -> str:
    strategies = [strategy for strategy, _ in names(runs)]
    baseline = "centralized" if "centralized" in strategies else strategies[0]
    accuracy = any("test_accuracy" in row for run in runs for row in run.metrics)
    hidden = {"consensus_distance", "test_loss" if accuracy else ""}
    rows: list[list[str]] = []
    for metric in (metric for metric in HEADINGS if metric not in hidden):
        differences = paired_differences(runs, metric, baseline)
        if not differences:
            continue
        rows += [[_capital(axis_label(metric)), d.condition, *d.cells()] for d in differences]
    if not rows:
        return "<p>There are no finished runs of two strategies to compare.</p>"
    note = (
        f"Each strategy minus {baseline}, replica by replica: replicas of the same index share seed, initial "
        "parameters and samples. Mean ± standard error of the differences, and the 95 % t-interval of their "
        "mean; no difference is shown where the interval covers zero. The intervals are not corrected for "
        "their number. Unfinished runs, and pairs of which one diverged, are left out."
    )
    headings = ["metric", "condition", "difference between", "mean ± s.e.", "95 % interval", "pairs", "verdict"]
    return f"<p>{escape(note)}</p>\n{_table(headings, rows, numbers=range(3, 6))}"


def _experiment(experiment: Mapping[str, Any]) -> str:
    rows = []
    for key, value in experiment.items():
        if key == "cases":
            text = " · ".join(f"{name}: {describe(values)}" for name, values in value.items())
        elif isinstance(value, list) and key != "analysis":
            text = " · ".join(map(describe, value))
        else:
            text = describe(value)
        rows.append(f'<tr><th scope="row">{escape(key)}</th><td>{escape(text)}</td></tr>')
    return '<div class="scroll"><table>\n<tbody>\n' + "\n".join(rows) + "\n</tbody>\n</table></div>"


def _descent(runs: Sequence[Run]) -> str:
    norms = [norm for run in runs for norm in finals(run, "excess_risk_gradient_norm").values()]
    if not norms:
        return ""
    return f"The descent stopped at a gradient norm of {max(norms):.2g} or less."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
