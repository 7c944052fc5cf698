"""The report of an experiment: one self-contained page, and the files it was made from."""

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib

from basinet.analysis.drawing.style import axis_label
from basinet.analysis.report.captions import capital
from basinet.analysis.report.gallery import gallery
from basinet.analysis.report.page import (
    as_svg,
    figure_html,
    folded_html,
    list_html,
    table_html,
    text_html,
    with_svg,
    write_page,
)
from basinet.analysis.report.tuning_section import tuning_html
from basinet.analysis.statistics.incidents import excuses, incidents
from basinet.analysis.statistics.paired import PairedDifference, paired_differences
from basinet.analysis.statistics.points import final_points, point_cells
from basinet.analysis.statistics.quantities import main_metric, metric_quantities, quantities
from basinet.analysis.statistics.ranking import MOST_ROWS, best_of, by_condition, leaders
from basinet.analysis.statistics.replica_values import finals
from basinet.analysis.statistics.run_labels import describe, names, strategy_label
from basinet.analysis.statistics.summary import write_csv, write_summary
from basinet.analysis.statistics.summary_table import baseline_cells, cells
from basinet.sim.run.files import plain_file
from basinet.sim.run.folder import Run, load_runs
from basinet.sim.run.lock import taking_turns
from basinet.sim.run.quantity import QUANTITIES
from basinet.sim.run.records import FINISHED, load_journal, load_record, load_tuning, stages_of

__all__ = ["summary_html", "write_report"]

_TEMPLATE = Path(__file__).with_name("report_template.html")
_STAGES = Path(__file__).with_name("stages_template.html")

_MOST_SENTENCES = 12

_DRAWN = re.compile(r"<!-- figures: (\w+) (\w+)((?: [\w.-]+)*) -->\n(.*)\n<!-- end of figures -->", re.DOTALL)
"""The figures of a page: digests of their sources and of the files, their names, and the HTML."""

_FLATNESS = ("hessian_trace", "hessian_top_eigenvalue")
_TERMS = (
    (("consensus_distance",), "Consensus distance", "Mean squared distance of the agents from the centroid."),
    (
        ("lost_messages",),
        "Lost messages",
        "The share of all messages sent so far that did not arrive. Agents that are absent send none, and are left out "
        "of the centroid.",
    ),
    (
        _FLATNESS,
        "Hessian trace and largest eigenvalue",
        "Of the Hessian of the training loss, at the centroid. Smaller is flatter. Errors of estimates are in the "
        "columns `_error` of summary.csv.",
    ),
    (
        ("excess_risk",),
        "Excess risk",
        "The training loss at the centroid minus the loss at the minimum of its basin, which is found by descent from "
        "the centroid.",
    ),
)
"""Explanations of terms, shown if one of their metrics was measured."""


def write_report(folder: str | Path, *, svg: bool = False) -> Path:
    """Write the report of an experiment, whether finished, unfinished or still running.

    Args:
        folder: The folder that `basinet run` wrote, or that of a single run. It receives `summary.csv`,
            `points.csv` if agents were measured, `figures/NAME.png` and `.csv`, and the self-contained
            `report.html`. Figures are redrawn only if their sources have changed.
        svg: Whether to write `figures/NAME.svg`, too, and show these, which are sharp at any size and follow the
            colours of the page; later reports then do the same.

    Returns:
        The page.
    """
    folder = Path(folder)
    with with_svg() if svg else nullcontext():
        if stages := stages_of(folder):
            return _write_stages(folder, stages)
        with taking_turns(folder):
            return _write(folder)


def _write_stages(folder: Path, stages: Sequence[Path]) -> Path:
    """Write the page of an experiment in stages, with links to their reports."""
    parts = []
    for stage in stages:
        if not (stage / "experiment.yaml").exists():
            parts.append(f"<h2>{escape(stage.name)}</h2>\n<p>It has not begun.</p>")
            continue
        runs, _ = load_runs(stage), write_report(stage)
        link = f'<a href="{quote(stage.name)}/report.html">{escape(stage.name)}</a>'
        lead = escape(_lead(runs, len(load_record(stage).get("runs", runs))))
        parts.append(f"<h2>{link}</h2>\n<p>{lead}</p>\n{summary_html(runs)}")
    lead = f"{len(stages)} stages, each of which starts where an earlier one has ended."
    page_parts = {"title": escape(folder.resolve().name), "lead": lead, "stages": "\n".join(parts)}
    return write_page(folder / "report.html", _STAGES, page_parts)


def _write(folder: Path) -> Path:
    runs = load_runs(folder)
    source = "experiment.yaml" if (folder / "experiment.yaml").exists() else "config.yaml"
    experiment = load_record(folder) if source == "experiment.yaml" else dict(runs[0].config)
    planned = experiment.pop("runs", None) or [run.name for run in runs]
    versions = experiment.pop("versions", None) or {}
    objects = experiment.pop("objects", None) or []
    if source == "config.yaml" and (folder.parent / "experiment.yaml").exists():
        objects = load_record(folder.parent).get("objects", [])
    impossible = experiment.pop("impossible", None) or {}
    experiment.pop("modules", None)
    about = str(experiment.pop("about", None) or "").strip()
    write_summary(runs, folder / "summary.csv")
    if at_points := final_points(runs):
        write_csv(at_points, folder / "points.csv")
    name = folder.resolve().name
    parts = {
        "title": escape(name),
        "lead": escape(_lead(runs, len(planned))),
        "about": "\n".join(f'<p class="about">{text_html(part)}</p>' for part in re.split(r"\n\s*\n", about) if part),
        "incidents": _incidents(
            runs, [name for name in planned if name not in {run.name for run in runs}], excuses(impossible)
        ),
        "summary": summary_html(runs) + _points(runs),
        "tuning": tuning_html(load_tuning(folder), runs, folder),
        "differences": _differences(runs),
        "figures": _figures(runs, folder),
        "experiment": _experiment(experiment),
        "measured": _measured(runs),
        "repeat": _repeat(name, source, experiment, objects),
        "versions": escape(", ".join(f"{key} {value}" for key, value in versions.items()) or "not recorded"),
    }
    return write_page(folder / "report.html", _TEMPLATE, parts)


def _lead(runs: Sequence[Run], planned: int) -> str:
    finished = sum(run.status.get("state") in FINISHED for run in runs)
    strategies = ", ".join(dict.fromkeys(strategy_label(run.config) for run in runs))
    return f"{finished} of {planned} {'run' if planned == 1 else 'runs'} finished. Strategies: {strategies}."


def _figures(runs: Sequence[Run], folder: Path) -> str:
    """Draw the figures, or reuse those of the last report if nothing has changed."""
    page, sources = folder / "report.html", _digest_sources(runs)
    found = _DRAWN.search(page.read_text("utf-8", "replace")) if page.exists() else None
    if found and found[1] == sources and found[2] == _digest_figures(folder, found[3].split(), found[4]):
        return found[0]
    drawings = gallery(runs)
    figures = [figure_html(drawing, folder / "figures") for drawing in drawings]
    names = [drawing.name for drawing in drawings]
    content = "\n".join(figures) or "<p>There is nothing to draw yet.</p>"
    head = " ".join([sources, _digest_figures(folder, names, content), *names])
    return f"<!-- figures: {head} -->\n{content}\n<!-- end of figures -->"


def _digest_sources(runs: Sequence[Run]) -> str:
    """Digest everything that figures depend on: measurements, tables, trajectories, code and settings."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(
        repr((sorted(matplotlib.rcParams.items()), *map(version, ("matplotlib", "numpy", "networkx")))).encode()
    )
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    for run in runs:
        digest.update(repr((run.path, run.config, run.status, run.metrics)).encode())
    folders = dict.fromkeys(folder for run in runs for folder in (run.path, run.path.parent))
    for path in (path for folder in folders for pattern in ("*.csv", "*.bin") for path in sorted(folder.glob(pattern))):
        with open(plain_file(path), "rb") as file:
            digest.update(f"{path!r} {hashlib.file_digest(file, 'blake2b').hexdigest()}".encode())
    return digest.hexdigest()


def _digest_figures(folder: Path, names: Iterable[str], content: str) -> str:
    """Digest the files of figures and their part of the page."""
    digest = hashlib.blake2b(content.encode(), digest_size=16)
    figures = folder / "figures"
    for name in names:
        suffixes = ("png", "csv", "svg") if as_svg(figures, name) else ("png", "csv")
        for path in (figures / f"{name}.{suffix}" for suffix in suffixes):
            digest.update(path.read_bytes() if path.exists() else b"none")
    return digest.hexdigest()


def _incidents(runs: Sequence[Run], missing: Sequence[str], left_out: Sequence[str]) -> str:
    """Format what a reader must know before the numbers."""
    sentences = [*incidents(runs), *(f"{name}: not started." for name in missing), *left_out]
    if not sentences:
        return ""
    first, more = sentences[:_MOST_SENTENCES], sentences[_MOST_SENTENCES:]
    rest = folded_html(f"{len(more)} more", list_html(more)) if more else ""
    return f'<div class="alert">{list_html(first)}{rest}</div>'


def summary_html(runs: Sequence[Run]) -> str:
    """Format the summary of runs as a table; for many runs, the best of each strategy, with all runs folded.

    Args:
        runs: The runs.

    Returns:
        HTML.
    """
    headings, rows = cells(runs)
    baselines = baseline_cells(runs)
    every = by_condition([*rows, *baselines], lambda row: row[0])
    if len(rows) <= MOST_ROWS:
        return table_html(headings, every, numbers=range(2, len(headings)), grouped=True)
    conditions = [condition for _, condition in names(runs)]
    row_of = dict(zip(by_condition(range(len(runs)), lambda place: conditions[place]), rows, strict=True))
    best = [row_of[place] for place in leaders(runs)[:MOST_ROWS]] + baselines
    order = [1, 0, *range(2, len(headings))]  # not grouped by condition, to sort all rows: each names its own
    short, whole = (
        table_html(
            [headings[column] for column in order],
            [[row[column] for column in order] for row in shown],
            numbers=range(2, len(headings)),
        )
        for shown in (best, every)
    )
    return f"<p>{escape(best_of(runs))}</p>\n{short}\n" + folded_html(
        f"All {len(rows)} runs (also in summary.csv)", whole
    )


def _points(runs: Sequence[Run]) -> str:
    """Format the values at the centroids and the agents."""
    headings, rows = point_cells(runs)
    if not rows:
        return ""
    note = (
        "The centroid and the agents after the last step, mean ± standard error over the replicas. For the agents, "
        "each replica contributes the mean over its agents, which are not independent; the spread is the standard "
        "deviation among them. For estimates, the mean error of a single agent's value is given below: for a trace, "
        "the standard error over random probes, which are the same at all points of a replica, so that equal points "
        "have equal values. The values of each point are in points.csv."
    )
    table = table_html(headings, rows, numbers=range(3, len(headings)), grouped=True)
    many = len(rows) > MOST_ROWS
    return f"\n<p>{escape(note)}</p>\n{folded_html(f'All {len(rows)} rows', table) if many else table}"


def _differences(runs: Sequence[Run]) -> str:
    """Format the comparisons with the baseline."""
    named = names(runs)
    strategies = [strategy for strategy, _ in named]
    baseline = "centralized" if "centralized" in strategies else strategies[0]
    hidden = {"test_loss"} - {main_metric(runs)}
    differences = [
        difference
        for metric, known in quantities(runs).items()
        if known.heading and known.compared and metric not in hidden
        for difference in paired_differences(runs, metric, baseline)
    ]
    if not differences:
        return "<p>There are no finished runs of two strategies to compare.</p>"
    note = (
        f"Each strategy minus {baseline}, replica by replica: replicas of the same index share seed, initial "
        "parameters and samples. Mean ± standard error of the differences, and the 95 % t-interval of their "
        "mean; no difference is shown if the interval covers zero, and differences from the sixth digit on count as "
        "rounding. The intervals are not corrected for multiple comparisons. Unfinished runs and pairs with a diverged "
        "replica are left out."
    )
    whole = _difference_table(runs, differences)
    if len(differences) <= MOST_ROWS:
        return f"<p>{escape(note)}</p>\n{whole}"
    best = {named[place] for place in leaders(runs)}
    short = _difference_table(runs, [d for d in differences if (d.strategy, d.condition) in best])
    note += f" Of {len(differences)} comparisons, those under the best condition of each strategy are shown first."
    return f"<p>{escape(note)}</p>\n{short}\n" + folded_html(f"All {len(differences)} comparisons", whole)


def _difference_table(runs: Sequence[Run], differences: Iterable[PairedDifference]) -> str:
    headings = ["metric", "difference between", "condition", "mean ± s.e.", "95 % interval", "pairs", "verdict"]
    rows = []
    for d in differences:
        pair, *numbers = d.cells()
        rows.append([capital(axis_label(d.metric, runs)), pair, d.condition, *numbers])
    return table_html(headings, rows, numbers=range(3, 6), grouped=True)


def _measured(runs: Sequence[Run]) -> str:
    """Explain the terms of the metrics that were measured."""
    known = _names(runs)
    measured = [metric.label for name, metric in metric_quantities(runs).items() if name in known]
    parts = ["losses", *dict.fromkeys(map(_bare, measured))]
    parts += [word for names, word in ((_FLATNESS, "flatness"), (("excess_risk",), "excess risk")) if known & {*names}]
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    terms = [
        (
            "Centroid",
            "The agents’ average, weighted by the Perron vector of the mixing matrix. "
            f"{capital(listed)} are those of the centroid.",
        )
    ]
    for losses in dict.fromkeys(str(run.status["loss"]) for run in runs if "loss" in run.status):
        terms.append(("Loss", f"{capital(losses)}."))
    for start in dict.fromkeys(str(run.status["start"]) for run in runs if "start" in run.status):
        terms.append(("Start", f"{capital(start)}."))
    if data := dict.fromkeys(text for run in runs for text in _analysis_data(run)):
        terms.append(("Analysis", f"Of the training loss, over {'; or over '.join(data)}."))
    for metrics, term, text in _TERMS:
        if known.intersection(metrics):
            terms.append((term, f"{text} {_descent(runs)}".strip() if "excess_risk" in metrics else text))
    told = {*QUANTITIES, *metric_quantities(runs), *(name for metrics, _, _ in _TERMS for name in metrics)}
    for name, quantity in quantities(runs).items():
        if name in known - told and quantity.about:
            terms.append((capital(quantity.heading or quantity.label), f"{capital(quantity.about)}."))
    if any(len({row["replica"] for row in run.metrics}) > 1 for run in runs):
        terms.append(("Standard error", "s / √n over n replicas, with n − 1 in s. Replicas differ in their seed."))
    entries = [f"<dt>{escape(term)}</dt>\n<dd>{text_html(text)}</dd>" for term, text in terms]
    return "<dl>\n" + "\n".join(entries) + "\n</dl>"


def _analysis_data(run: Run) -> Iterator[str]:
    """Describe the data that a run was analysed on, from the record of the analysis."""
    for state in load_journal(run.path).values():
        for parts in state.get("measured", {}).values():
            for settings in (entry["settings"] for entries in parts.values() for entry in entries):
                count, batch = settings.get("analysis_samples"), settings.get("measured_batch")
                text = "all samples" if count is None else f"{count} fixed samples (all if there are no more)"
                if "measured_batch" in settings:
                    text += " as one batch" if batch is None else f" in fixed batches of {batch}"
                yield text + (" in training mode" if settings.get("analysis_mode") == "training" else "")


def _bare(label: str) -> str:
    """Return the label of a metric without the data that it is measured on."""
    return label.removeprefix("test ").removeprefix("training ")


def _names(runs: Sequence[Run]) -> set[str]:
    return {name for run in runs for row in run.metrics for name in row}


def _experiment(experiment: Mapping[str, Any]) -> str:
    """Format the settings of the experiment."""
    rows = []
    for key, value in experiment.items():
        if key in ("cases", "axes") and value is not None:
            text = " · ".join(f"{name}: {describe(values)}" for name, values in value.items())
        elif isinstance(value, list) and key != "analysis":
            text = " · ".join(map(describe, value))
        else:
            text = describe(value)
        rows.append(f'<tr><th scope="row">{escape(key)}</th><td>{escape(text)}</td></tr>')
    return '<table class="settings">\n<tbody>\n' + "\n".join(rows) + "\n</tbody>\n</table>"


def _repeat(name: str, file: str, experiment: Mapping[str, Any], objects: Sequence[str]) -> str:
    """Return the command that repeats the experiment, or the Python call if no file can hold it."""
    if not objects:
        command = f"basinet run {shlex.quote(f'{name}/{file}')} --out {shlex.quote(f'{name}-again')}"
        return f"<pre><code>{escape(command)}</code></pre>"
    lines = []
    for key, value in experiment.items():
        if value is not None:
            lines.append(f"    {key}=...,  # {describe(value)}" if key in objects else f"    {key}={value!r},")
    call = "\n".join(["import basinet", "", "basinet.run(", *lines, f"    out={name + '-again'!r},", ")"])
    note = (
        f"Python objects, which no file can hold, were given as {', '.join(objects)}: run the script that passed them"
        " again, with another folder, or replace the dots with them."
    )
    return f"<p>{escape(note)}</p>\n<pre><code>{escape(call)}</code></pre>"


def _descent(runs: Sequence[Run]) -> str:
    norms = [norm for run in runs for norm in finals(run, "excess_risk_gradient_norm").values()]
    if not norms:
        return ""
    return f"The descent stopped at a gradient norm of {max(norms):.2g} or less."
