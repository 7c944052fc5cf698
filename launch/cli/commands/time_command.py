"""`basinet time`: simulated times of finished runs on other networks, without training."""

import argparse
import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from basinet.analysis.compare.frame_reading import frame_of
from basinet.analysis.compare.targets import parse_target
from basinet.analysis.statistics.replica_values import moments
from basinet.launch.cli.output import DONE, say, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.exporting.chrome_trace import chrome_trace
from basinet.launch.finished.retiming import Retimed, retimed, write_retimed
from basinet.sim.clock.clock import clock_of
from basinet.sim.clock.timeline import timeline
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.files import write_atomically
from basinet.sim.run.folder import load_runs

__all__ = ["execute"]

_SHARES = ("compute", "communication", "idle")


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    runs = load_runs(options.folder)
    target = parse_target(options.target, frame_of(runs)) if options.target else None
    timings = [timed for run in runs for timed in retimed(run, options.words)]
    if options.timeline is not None:
        _draw(timings, options.timeline, options.rounds)
    rows = [_row(timed, target) for timed in timings]
    if options.json:
        write_json([_finite(row) for row in rows])
    else:
        axes = list(dict.fromkeys(key for timed in timings for key in timed.axes))
        header = ["run", *axes, "steps", "s / step", "total (s)", *(f"{share} (%)" for share in _SHARES)]
        header += [f"s to {options.target}"] if target else []
        texts = [_texts(timed, row, axes) for timed, row in zip(timings, rows, strict=True)]
        write_table(header, texts, names=1 + len(axes))
    if options.write is not None:
        write_retimed(timings, options.write)
        say(f"runs with these times: {options.write}")
    return DONE


def _draw(timings: list[Retimed], file: Path, rounds: str) -> None:
    """Write the timeline of a run."""
    if len(timings) > 1:
        raise ExperimentError(
            f"--timeline: it is of one run, but there are {len(timings)} timings; give a run's folder"
        )
    if timings[0].acts_at_events:
        raise ExperimentError(
            f"--timeline: agents of {timings[0].run.name} act at events, and take no steps together that it could show;"
            " allowed are other runs"
        )
    found = re.fullmatch(r"(\d{1,12}):(\d{1,12})", rounds)
    timed, (first, last) = timings[0], map(int, found.groups()) if found else (0, 0)
    if not 1 <= first <= last <= timed.steps:
        raise ExperimentError(f"--rounds: got {rounds}; allowed are steps from 1 to {timed.steps}, such as 1:5")
    trace = file.suffix.lower() == ".json"
    if not trace:
        # The command imports matplotlib only if it draws.
        from basinet.analysis.plots.compared.compared_figures import check_file, save_figure
        from basinet.analysis.plots.network.timeline_chart import plot_timeline

        check_file(file, "--timeline")
    activities = timeline(clock_of(timed.setup), first, last)
    if trace:
        write_atomically(file, json.dumps(chrome_trace(activities, *timed.seats)) + "\n")
    else:
        figure = plot_timeline([one._asdict() for one in activities]).get_figure(root=True)
        assert figure is not None
        save_figure(figure, file)
    say(f"timeline: {file}")


def _row(timed: Retimed, target: tuple[str, float] | None) -> dict[str, Any]:
    final = timed.final
    total = float(final["simulated_time"].mean())
    row: dict[str, Any] = {
        "run": timed.run.name,
        **timed.given,
        "steps": timed.steps,
        "replicas": len(final["simulated_time"]),
        "seconds_per_step": total / timed.steps,
        "seconds": total,
        "seconds_error": moments(final["simulated_time"].tolist())[1],
        **{f"{share}_share": float(final[f"{share}_share"].mean()) for share in _SHARES},
    }
    return row | ({"target": asdict(timed.until(*target))} if target else {})


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which what is unknown is None, as JSON has neither infinity nor NaN."""
    return {
        key: _finite(value)
        if isinstance(value, dict)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in row.items()
    }


def _texts(timed: Retimed, row: dict[str, Any], axes: list[str]) -> list[str]:
    error = row["seconds_error"]
    total = f"{row['seconds']:.4g}" + (f" ± {error:.2g}" if error else "")
    cells = [
        timed.run.name,
        *(timed.axes.get(key, "") for key in axes),
        f"{row['steps']:,}",
        f"{row['seconds_per_step']:.4g}",
        total,
    ]
    cells += [f"{100 * row[f'{share}_share']:.1f}" for share in _SHARES]
    return cells + ([_reached(row["target"])] if "target" in row else [])


def _reached(found: dict[str, Any]) -> str:
    """Write a median with its 95 % interval, and how many replicas have reached the target."""
    median, *ends = ("∞" if math.isinf(found[key]) else f"{found[key]:.4g}" for key in ("median", "lower", "upper"))
    return f"{median} [{', '.join(ends)}], {found['count']} of {found['number']}"
