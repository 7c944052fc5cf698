"""`basinet status`: which runs run, wait, are dead or done, and what their workers use."""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby

from basinet.launch.cli.output import DONE, FAILED, say, say_some, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.status.prometheus_text import prometheus_text
from basinet.launch.status.resuming import how_to_go_on
from basinet.launch.status.run_states import RunState, look
from basinet.launch.status.status_cells import OF_RUNS, OF_WORKERS, run_cells, worker_cells
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.run.files import write_atomically
from basinet.sim.run.records import FINISHED

__all__ = ["execute"]

AT_WORK, UNFINISHED = 3, 4
"""Exit statuses: a process is at work; a run is dead or interrupted, or has lost a rank."""


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    runs, problems = look(options.folder)
    if options.prometheus is not None:
        write_atomically(options.prometheus, prometheus_text(runs), sync=False)
    lost = [run for run in runs if run.goes_on]
    several = len({run.experiment for run in runs}) > 1
    shown = [run for run in runs if options.all or not several or run.state not in FINISHED]
    if options.json:
        write_json([asdict(run) for run in shown])
    elif shown:
        _write_table(OF_RUNS, [run_cells(run) for run in shown])
        if len(runs) == 1 and len(runs[0].workers) > 1:
            _write_table(OF_WORKERS, [worker_cells(worker) for worker in runs[0].workers])
    if len(shown) < len(runs):
        say(f"{count_of(len(runs) - len(shown), 'finished run')} not listed; --all lists all")
    told = [f"{run.name}: {run.state}: {run.why}" for run in runs if run.why and run.state != "dead"]
    say_some([*problems, *told], "the output of --json")
    say_some([_to_go_on(members) for _, members in groupby(lost, key=lambda run: run.experiment)], "the folders")
    if any(run.attended for run in runs):
        return AT_WORK
    if lost:
        return UNFINISHED
    return FAILED if problems or any(run.state in ("failed", "damaged") for run in runs) else DONE


def _to_go_on(members: Iterable[RunState]) -> str:
    """Say which runs of an experiment nobody takes to their end, why, and how they go on."""
    runs = list(members)
    counts = [f"{count} {state}" for state, count in Counter(run.state for run in runs).items()]
    why = "; ".join(dict.fromkeys(run.why for run in runs if run.state == "dead"))
    return f"{runs[0].experiment}: {', '.join(counts)}{f' ({why})' if why else ''}. To go on: {how_to_go_on(runs)}"


def _write_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without the columns that are empty."""
    kept = [place for place in range(len(header)) if any(row[place] for row in rows)]
    write_table([header[place] for place in kept], [[row[place] for place in kept] for row in rows])
