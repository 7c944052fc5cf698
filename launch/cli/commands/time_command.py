"""`basinet time`: simulated times of finished runs on other networks, without training."""

import argparse
import math
from dataclasses import asdict
from typing import Any

from basinet.analysis.compare.frame_reading import frame_of
from basinet.analysis.compare.targets import parse_target
from basinet.analysis.statistics.replica_values import moments
from basinet.launch.cli.output import DONE, say, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.finished.retiming import Retimed, retimed, write_retimed
from basinet.sim.run.folder import load_runs

__all__ = ["execute"]

_SHARES = ("compute", "communication", "idle")


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    runs = load_runs(options.folder)
    target = parse_target(options.target, frame_of(runs)) if options.target else None
    timings = [timed for run in runs for timed in retimed(run, options.words)]
    rows = [_row(timed, target) for timed in timings]
    if options.json:
        write_json([_finite(row) for row in rows])
    else:
        axes = list(dict.fromkeys(key for timed in timings for key in timed.axes))
        header = ["run", *axes, "steps", "s / step", "total (s)", *(f"{share} (%)" for share in _SHARES)]
        header += [f"s to {options.target}"] if target else []
        write_table(header, [_texts(timed, row, axes) for timed, row in zip(timings, rows, strict=True)])
    if options.write is not None:
        write_retimed(timings, options.write)
        say(f"runs with these times: {options.write}")
    return DONE


def _row(timed: Retimed, target: tuple[str, float] | None) -> dict[str, Any]:
    final = timed.final
    total, error, count = moments(final["simulated_time"].tolist())
    row: dict[str, Any] = {
        "run": timed.run.name,
        **timed.given,
        "steps": timed.steps,
        "replicas": count,
        "seconds_per_step": total / timed.steps,
        "seconds": total,
        "seconds_error": error,
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
