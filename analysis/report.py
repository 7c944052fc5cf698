"""The report of an experiment: one page that can be sent to someone, and the files it was made from."""

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from basinet.analysis.page import figure_html, list_html, table_html, write_page
from basinet.analysis.paired import paired_differences
from basinet.analysis.plots.gallery import gallery
from basinet.analysis.plots.names import describe, names
from basinet.analysis.plots.style import axis_label
from basinet.analysis.points import point_cells, points
from basinet.analysis.summary import (
    HEADINGS,
    cells,
    excuses,
    finals,
    incidents,
    strategy_label,
    write_csv,
    write_summary,
)
from basinet.sim.folder import FINISHED, Run, load_record, load_runs
from basinet.sim.lock import alone

__all__ = ["write_report"]

_TEMPLATE = Path(__file__).with_name("report_template.html")


@alone
def write_report(folder: str | Path) -> Path:
    """Write the report of an experiment, finished or not.

    Args:
        folder: The folder that `basinet run` wrote, or that of a single run. It receives `summary.csv`,
            `points.csv` if agents were measured, `figures/NAME.png`, `.svg` and `.csv`, and `report.html`, which
            needs no other file.

    Returns:
        The page.
    """
    folder = Path(folder)
    runs = load_runs(folder)
    source = "experiment.yaml" if (folder / "experiment.yaml").exists() else "config.yaml"
    experiment = load_record(folder) if source == "experiment.yaml" else dict(runs[0].config)
    planned = experiment.pop("runs", None) or [run.name for run in runs]
    versions = experiment.pop("versions", None) or {}
    objects = experiment.pop("objects", None) or []
    if source == "config.yaml" and (folder.parent / "experiment.yaml").exists():
        objects = load_record(folder.parent).get("objects", [])
    impossible = experiment.pop("impossible", None) or {}
    about = str(experiment.pop("about", None) or "").strip()
    write_summary(runs, folder / "summary.csv")
    if at_points := points(runs):
        write_csv(at_points, folder / "points.csv")
    figures = [figure_html(drawing, folder / "figures") for drawing in gallery(runs)]
    name = folder.resolve().name
    parts = {
        "title": escape(name),
        "lead": escape(_lead(runs, len(planned))),
        "about": f'<p class="about">{escape(about)}</p>' if about else "",
        "incidents": _incidents(
            runs, [name for name in planned if name not in {run.name for run in runs}], excuses(impossible)
        ),
        "summary": _summary(runs) + _points(runs),
        "differences": _differences(runs),
        "figures": "\n".join(figures) or "<p>There is nothing to draw yet.</p>",
        "experiment": _experiment(experiment),
        "descent": escape(_descent(runs)),
        "repeat": _repeat(name, source, experiment, objects),
        "versions": escape(", ".join(f"{key} {value}" for key, value in versions.items()) or "not recorded"),
    }
    return write_page(folder / "report.html", _TEMPLATE, parts)


def _lead(runs: Sequence[Run], planned: int) -> str:
    finished = sum(run.status.get("state") in FINISHED for run in runs)
    strategies = ", ".join(dict.fromkeys(strategy_label(run.config) for run in runs))
    return f"{finished} of {planned} {'run' if planned == 1 else 'runs'} finished. Strategies: {strategies}."


def _incidents(runs: Sequence[Run], missing: Sequence[str], left_out: Sequence[str]) -> str:
    sentences = [*incidents(runs), *(f"{name}: not started." for name in missing), *left_out]
    return f'<div class="alert">{list_html(sentences)}</div>' if sentences else ""


def _summary(runs: Sequence[Run]) -> str:
    headings, rows = cells(runs)
    return table_html(headings, rows, numbers=range(2, len(headings)))


def _points(runs: Sequence[Run]) -> str:
    headings, rows = point_cells(runs)
    if not rows:
        return ""
    note = (
        "The centroid and the agents after the last step, mean ± standard error over the replicas. At the agents a "
        "replica counts with the mean over its agents, for they are not independent; the spread is the standard "
        "deviation among them. Where a value is an estimate, its mean error at an agent stands below: of a trace the "
        "standard error over random probes, which are the same at all points of a replica, so that equal points have "
        "equal values. Each point's values are in points.csv."
    )
    return f"\n<p>{escape(note)}</p>\n{table_html(headings, rows, numbers=range(3, len(headings)))}"


def _differences(runs: Sequence[Run]) -> str:
    strategies = [strategy for strategy, _ in names(runs)]
    baseline = "centralized" if "centralized" in strategies else strategies[0]
    accuracy = any("test_accuracy" in row for run in runs for row in run.metrics)
    hidden = {"consensus_distance", "stability_limit", "consensus_stability_limit", "test_loss" if accuracy else ""}
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
    return f"<p>{escape(note)}</p>\n{table_html(headings, rows, numbers=range(3, 6))}"


def _experiment(experiment: Mapping[str, Any]) -> str:
    rows = []
    for key, value in experiment.items():
        if key == "cases" and value is not None:
            text = " · ".join(f"{name}: {describe(values)}" for name, values in value.items())
        elif isinstance(value, list) and key != "analysis":
            text = " · ".join(map(describe, value))
        else:
            text = describe(value)
        rows.append(f'<tr><th scope="row">{escape(key)}</th><td>{escape(text)}</td></tr>')
    return '<div class="scroll"><table>\n<tbody>\n' + "\n".join(rows) + "\n</tbody>\n</table></div>"


def _repeat(name: str, file: str, experiment: Mapping[str, Any], objects: Sequence[str]) -> str:
    """Write the command that runs the experiment again; or where no file holds it, the call in Python."""
    if not objects:
        command = f"basinet run {shlex.quote(f'{name}/{file}')} --out {shlex.quote(f'{name}-again')}"
        return f"<pre><code>{escape(command)}</code></pre>"
    lines = []
    for key, value in experiment.items():
        if value is not None:
            lines.append(f"    {key}=...,  # {describe(value)}" if key in objects else f"    {key}={value!r},")
    call = "\n".join(["import basinet", "", "basinet.run(", *lines, f"    out={name + '-again'!r},", ")"])
    note = (
        f"Objects from Python, which no file holds, were given as {', '.join(objects)}: run the script again that gave"
        " them, with another folder, or put them in place of the dots."
    )
    return f"<p>{escape(note)}</p>\n<pre><code>{escape(call)}</code></pre>"


def _descent(runs: Sequence[Run]) -> str:
    norms = [norm for run in runs for norm in finals(run, "excess_risk_gradient_norm").values()]
    if not norms:
        return ""
    return f"The descent stopped at a gradient norm of {max(norms):.2g} or less."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
