"""The report of an experiment: one page that can be sent to someone, and the files it was made from."""

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib

from basinet.analysis.drawing.style import axis_label
from basinet.analysis.report.captions import capital
from basinet.analysis.report.gallery import gallery
from basinet.analysis.report.page import figure_html, folded_html, list_html, table_html, text_html, write_page
from basinet.analysis.statistics.incidents import excuses, incidents
from basinet.analysis.statistics.paired import PairedDifference, paired_differences
from basinet.analysis.statistics.points import final_points, point_cells
from basinet.analysis.statistics.quantities import quantities
from basinet.analysis.statistics.ranking import MOST_ROWS, best_of, by_condition, leaders
from basinet.analysis.statistics.replica_values import finals
from basinet.analysis.statistics.run_labels import describe, names, strategy_label
from basinet.analysis.statistics.summary import write_csv, write_summary
from basinet.analysis.statistics.summary_table import cells
from basinet.sim.run.files import plain_file
from basinet.sim.run.folder import Run, load_runs
from basinet.sim.run.lock import taking_turns
from basinet.sim.run.records import FINISHED, load_record

__all__ = ["summary_html", "write_report"]

_TEMPLATE = Path(__file__).with_name("report_template.html")

_MOST_SENTENCES = 12

_DRAWN = re.compile(r"<!-- figures: (\w+) (\w+)((?: [\w.-]+)*) -->\n(.*)\n<!-- end of figures -->", re.DOTALL)
"""The figures of a page: digests of what they were drawn from and of what was drawn, their names, and the HTML."""

_FLATNESS = ("hessian_trace", "hessian_top_eigenvalue")
_TERMS = (
    (("consensus_distance",), "Consensus distance", "Mean squared distance of the agents from the centroid."),
    (
        _FLATNESS,
        "Hessian trace and largest eigenvalue",
        "Of the Hessian of the mean training loss over all data, at the centroid. Smaller is flatter. Where they are "
        "estimated, the error of the estimate is in the columns `_error` of summary.csv.",
    ),
    (
        ("excess_risk",),
        "Excess risk",
        "The training loss at the centroid minus the loss at the minimum of its basin, which is found by descent from "
        "there.",
    ),
)
"""What is explained where one of the metrics was measured."""


def write_report(folder: str | Path) -> Path:
    """Write the report of an experiment, finished or not, or still at work.

    Args:
        folder: The folder that `basinet run` wrote, or that of a single run. It receives `summary.csv`,
            `points.csv` if agents were measured, `figures/NAME.png`, `.svg` and `.csv`, and `report.html`, which
            needs no other file. Figures are drawn again only if something has changed that they are drawn from.

    Returns:
        The page.
    """
    folder = Path(folder)
    with taking_turns(folder):
        return _write(folder)


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
    """Draw the figures, or take them from the last report if nothing has changed."""
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
    """Digest all that figures may be drawn from and by: measurements, tables, trajectories, code, and settings."""
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
    """Digest the files of figures, and the part of the page that shows them."""
    digest = hashlib.blake2b(content.encode(), digest_size=16)
    for path in (folder / "figures" / f"{name}.{suffix}" for name in names for suffix in ("png", "svg", "csv")):
        digest.update(path.read_bytes() if path.exists() else b"none")
    return digest.hexdigest()


def _incidents(runs: Sequence[Run], missing: Sequence[str], left_out: Sequence[str]) -> str:
    """Lay out what a reader must know before the numbers."""
    sentences = [*incidents(runs), *(f"{name}: not started." for name in missing), *left_out]
    if not sentences:
        return ""
    first, more = sentences[:_MOST_SENTENCES], sentences[_MOST_SENTENCES:]
    rest = folded_html(f"{len(more)} more", list_html(more)) if more else ""
    return f'<div class="alert">{list_html(first)}{rest}</div>'


def summary_html(runs: Sequence[Run]) -> str:
    """Write the summary of runs as a table; of many runs the best of each strategy, and all behind a fold.

    Args:
        runs: The runs.

    Returns:
        HTML.
    """
    headings, rows = cells(runs)
    whole = table_html(headings, rows, numbers=range(2, len(headings)), grouped=True)
    if len(rows) <= MOST_ROWS:
        return whole
    conditions = [condition for _, condition in names(runs)]
    row_of = dict(zip(by_condition(range(len(runs)), lambda place: conditions[place]), rows, strict=True))
    best = [row_of[place] for place in leaders(runs)[:MOST_ROWS]]
    order = [1, 0, *range(2, len(headings))]  # sorted: the condition of each is in its row
    short = [[row[column] for column in order] for row in best]
    table = table_html([headings[column] for column in order], short, numbers=range(2, len(headings)))
    return f"<p>{escape(best_of(runs))}</p>\n{table}\n" + folded_html(
        f"All {len(rows)} runs, which are in summary.csv, too", whole
    )


def _points(runs: Sequence[Run]) -> str:
    """Lay out the values at the centroids and the agents."""
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
    table = table_html(headings, rows, numbers=range(3, len(headings)), grouped=True)
    many = len(rows) > MOST_ROWS
    return f"\n<p>{escape(note)}</p>\n{folded_html(f'All {len(rows)} rows', table) if many else table}"


def _differences(runs: Sequence[Run]) -> str:
    """Lay out the comparisons with the baseline."""
    named = names(runs)
    strategies = [strategy for strategy, _ in named]
    baseline = "centralized" if "centralized" in strategies else strategies[0]
    hidden = {"test_loss"} if "test_accuracy" in _names(runs) else set()
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
        "mean; no difference is shown where the interval covers zero, and from the sixth digit on differences are "
        "those of rounding. The intervals are not corrected for "
        "their number. Unfinished runs, and pairs of which one diverged, are left out."
    )
    whole = _difference_table(runs, differences)
    if len(differences) <= MOST_ROWS:
        return f"<p>{escape(note)}</p>\n{whole}"
    best = {named[place] for place in leaders(runs)}
    short = _difference_table(runs, [d for d in differences if (d.strategy, d.condition) in best])
    note += f" Of {len(differences)} comparisons those under the best condition of each strategy come first."
    return f"<p>{escape(note)}</p>\n{short}\n" + folded_html(f"All {len(differences)} comparisons", whole)


def _difference_table(runs: Sequence[Run], differences: Iterable[PairedDifference]) -> str:
    headings = ["metric", "difference between", "condition", "mean ± s.e.", "95 % interval", "pairs", "verdict"]
    rows = []
    for d in differences:
        pair, *numbers = d.cells()
        rows.append([capital(axis_label(d.metric, runs)), pair, d.condition, *numbers])
    return table_html(headings, rows, numbers=range(3, 6), grouped=True)


def _measured(runs: Sequence[Run]) -> str:
    """Explain what was measured, nothing else."""
    known = _names(runs)
    parts = ["losses", "accuracy"] if "test_accuracy" in known else ["losses"]
    parts += [word for names, word in ((_FLATNESS, "flatness"), (("excess_risk",), "excess risk")) if known & {*names}]
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    terms = [
        (
            "Centroid",
            "The agents’ average, weighted by the Perron vector of the mixing matrix. "
            f"{capital(listed)} are those of the centroid.",
        )
    ]
    for metrics, term, text in _TERMS:
        if known.intersection(metrics):
            terms.append((term, f"{text} {_descent(runs)}".strip() if "excess_risk" in metrics else text))
    if any(len({row["replica"] for row in run.metrics}) > 1 for run in runs):
        terms.append(("Standard error", "s / √n over n replicas, with n − 1 in s. Replicas differ in their seed."))
    entries = [f"<dt>{escape(term)}</dt>\n<dd>{text_html(text)}</dd>" for term, text in terms]
    return "<dl>\n" + "\n".join(entries) + "\n</dl>"


def _names(runs: Sequence[Run]) -> set[str]:
    return {name for run in runs for row in run.metrics for name in row}


def _experiment(experiment: Mapping[str, Any]) -> str:
    """Lay out the settings of the experiment."""
    rows = []
    for key, value in experiment.items():
        if key == "cases" and value is not None:
            text = " · ".join(f"{name}: {describe(values)}" for name, values in value.items())
        elif isinstance(value, list) and key != "analysis":
            text = " · ".join(map(describe, value))
        else:
            text = describe(value)
        rows.append(f'<tr><th scope="row">{escape(key)}</th><td>{escape(text)}</td></tr>')
    return '<table class="settings">\n<tbody>\n' + "\n".join(rows) + "\n</tbody>\n</table>"


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
