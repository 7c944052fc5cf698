"""`basinet compare`: compare finished runs."""

import argparse
import io
import json
from typing import TYPE_CHECKING

from rich.console import Console

from basinet.analysis.compare.comparison import Comparison, compare
from basinet.analysis.statistics.ranking import MOST_ROWS
from basinet.analysis.statistics.summary import as_csv
from basinet.launch.cli.output import DONE, say, say_some, screen, write
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.files import write_atomically

if TYPE_CHECKING:
    from basinet.analysis.compare.relations import Relations

__all__ = ["execute"]

_FORMATS = {".csv": "csv", ".tex": "latex", ".md": "markdown", ".json": "json", ".txt": "terminal"}
_WIDTH = 120


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    if options.plot is not None:
        return _plot(options)
    if options.width is not None:
        raise ExperimentError(f"--width: got {options.width} without a figure; give --plot, too")
    kind = _format(options)
    related = options.x or options.y
    if not related and options.given:
        raise ExperimentError(f"--given: got {options.given} without a relation; give --y and --x, too")
    if related and (lost := [name for name in ("target", "metrics") if getattr(options, name)]):
        raise ExperimentError(f"--{lost[0]}: relations have no such setting; leave it, or --x and --y, out")
    found = _compare(options)
    shown: Comparison | Relations = _relations(found, options) if related else found
    said = [*found.left_out, *shown.notes]
    say_some(said, "the output of --json")
    most = MOST_ROWS if kind == "terminal" else None
    table = found.table(options.interval, most=most) if shown is found else shown.table()
    if kind == "terminal" and options.out is None:
        write(table.terminal(screen().width))
        return DONE
    if kind == "csv":
        text = as_csv(shown.rows())
    elif kind == "json":
        text = json.dumps({"rows": shown.rows(), "notes": said}, indent=1, default=str) + "\n"
    elif kind == "terminal":
        drawn = io.StringIO()
        Console(file=drawn, width=_WIDTH).print(table.terminal(_WIDTH))
        text = drawn.getvalue()
    else:
        text = table.latex() if kind == "latex" else table.markdown()
    if options.out is None:
        write(text, end="")
    else:
        write_atomically(options.out, text)
        say(f"table: {options.out}")
    return DONE


def _compare(options: argparse.Namespace) -> Comparison:
    return compare(
        *options.folders,
        by=_listed("--by", options.by),
        where=options.where,
        target=options.target,
        metrics=_listed("--metrics", options.metrics),
    )


def _plot(options: argparse.Namespace) -> int:
    """Draw a figure; raise if options do not go with it."""
    others = {"--json": options.json, "--format": options.format, "--target": options.target, "--given": options.given}
    if given := [name for name, value in others.items() if value]:
        raise ExperimentError(f"{given[0]}: a figure has no such setting; leave it, or --plot, out")
    # The command imports matplotlib only if it draws.
    from basinet.analysis.plots.compared.compared_figures import check_file, comparison_figure, save_figure

    check_file(options.out)
    found = _compare(options)
    figure, notes = comparison_figure(
        found,
        options.plot,
        x=options.x,
        y=options.y,
        metrics=_listed("--metrics", options.metrics),
        interval=options.interval,
        width=options.width,
    )
    save_figure(figure, options.out)
    say_some([*found.left_out, *notes], "basinet compare --json")
    say(f"figure: {options.out}")
    return DONE


def _listed(option: str, names: str | None) -> list[str]:
    """Split comma-separated names."""
    found = [name.strip() for name in names.split(",")] if names is not None else []
    if not all(found):
        raise ExperimentError(f"{option}: got {names!r}; allowed are names separated by commas")
    return found


def _format(options: argparse.Namespace) -> str:
    """Choose the format; raise if the file's name says none."""
    if options.json and options.format not in (None, "json"):
        raise ExperimentError(f"--json: got --format {options.format}, too; give one of them")
    chosen: str | None = "json" if options.json else options.format
    if chosen is None and options.out is not None:
        chosen = _FORMATS.get(options.out.suffix.lower())
        if chosen is None:
            raise ExperimentError(
                f"--out: got {options.out}, whose suffix names no format; allowed: {', '.join(_FORMATS)}, or --format"
            )
    return chosen or "terminal"


def _relations(found: Comparison, options: argparse.Namespace) -> "Relations":
    """Relate the metrics asked for."""
    if not (options.x and options.y):
        lone, other = ("--x", "--y") if options.x else ("--y", "--x")
        raise ExperimentError(f"{lone}: a relation has two sides; give {other}, too, such as --y test_accuracy")
    given = options.given
    if given is None and "excess_risk" in found.frame.metrics and "excess_risk" not in (options.x, options.y):
        given = "excess_risk"
    return found.relations(options.y, options.x, given)
