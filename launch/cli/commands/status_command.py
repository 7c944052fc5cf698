"""`basinet status`: which runs run, wait, are dead or done, and what their workers use."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from itertools import groupby
from typing import Any

from rich.filesize import decimal

from basinet.launch.cli.output import DONE, FAILED, say, say_some, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.status.prometheus_text import prometheus_text
from basinet.launch.status.resuming import how_to_go_on
from basinet.launch.status.run_states import RESUMABLE, RunState, look
from basinet.sim.run.files import write_atomically
from basinet.sim.run.records import FINISHED

__all__ = ["execute"]

AT_WORK, UNFINISHED = 3, 4
"""Exit statuses: a process is at work; a run is dead or interrupted."""


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    runs, problems = look(options.folder)
    if options.prometheus is not None:
        write_atomically(options.prometheus, prometheus_text(runs), sync=False)
    several = len({run.experiment for run in runs}) > 1
    shown = [run for run in runs if options.all or not several or run.state not in FINISHED]
    if options.json:
        write_json([asdict(run) for run in shown])
    elif shown:
        _write_table([(run.name, *_cells(run)) for run in shown], _HEADER)
        if len(runs) == 1 and len(runs[0].usage) > 1:
            _write_table([_of_worker(worker) for worker in runs[0].usage], _HEADER_OF_WORKERS)
    if len(shown) < len(runs):
        say(f"{len(runs) - len(shown):,} runs are finished; --all lists them, too")
    say_some([*problems, *(f"{run.name}: {run.state}: {run.why}" for run in runs if run.why)], "the output of --json")
    for _, members in groupby(runs, key=lambda run: run.experiment):
        if lost := [run for run in members if run.state in RESUMABLE and not run.attended]:
            say(f"{len(lost)} of the runs in {lost[0].experiment} wait for somebody to go on: {how_to_go_on(lost)}")
    if any(run.attended for run in runs):
        return AT_WORK
    if any(run.state in RESUMABLE for run in runs):
        return UNFINISHED
    return FAILED if problems or any(run.state in ("failed", "damaged") for run in runs) else DONE


_HEADER = ("run", "state", "step", "left", "last value", "a step", "waiting", "sent", "memory", "slowest worker")


def _cells(run: RunState) -> Sequence[str]:
    """Describe a run in a line."""
    heading = (run.quantity.heading or run.quantity.label) if run.quantity is not None else run.metric
    timed = [worker for worker in run.usage if worker["step_seconds"] is not None]
    memory = [worker["memory_bytes"] for worker in run.usage if worker["memory_bytes"] is not None]
    many = len(timed) > 1
    # Workers that exchange rows take equally long for a step: the slowest is the one that waits least.
    slowest = max(timed, key=lambda worker: worker["step_seconds"] - worker["waiting_seconds"]) if many else None
    return (
        run.state,
        f"{run.step:,}" + (f" of {run.steps:,}" if run.steps is not None else ""),
        str(timedelta(seconds=round(run.seconds_left))) if run.seconds_left is not None else "",
        f"{heading} {run.value:.4g}" if run.value is not None else "",
        _milliseconds(max(worker["step_seconds"] for worker in timed)) if timed else "",
        _percent(sum(map(_waiting, timed)) / len(timed)) if many else "",
        f"{decimal(round(run.sent_per_second))}/s" if run.sent_per_second is not None else "",
        decimal(max(memory)) if memory else "",
        f"{slowest['rank']} on {slowest['host']}" if slowest is not None else "",
    )


_HEADER_OF_WORKERS = ("worker", "machine", "device", "a step", "waiting", "sent", "memory")


def _of_worker(worker: Mapping[str, Any]) -> Sequence[str]:
    """Describe a worker in a line."""
    timed, memory = worker["step_seconds"] is not None, worker["memory_bytes"]
    return (
        str(worker["rank"]),
        worker["host"],
        worker["device"],
        _milliseconds(worker["step_seconds"]) if timed else "",
        _percent(_waiting(worker)) if timed else "",
        decimal(worker["sent_bytes"]),
        decimal(memory) if memory is not None else "",
    )


def _write_table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """Print a table without the columns that are empty."""
    kept = [place for place in range(len(header)) if any(row[place] for row in rows)]
    write_table([header[place] for place in kept], [[row[place] for place in kept] for row in rows])


def _waiting(worker: Mapping[str, Any]) -> float:
    """Return the share of a worker's steps that it waits for others."""
    return float(worker["waiting_seconds"] / worker["step_seconds"])


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
