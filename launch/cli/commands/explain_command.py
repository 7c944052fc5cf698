"""`basinet run --explain`: who would host what, what would travel, and whether it fits."""

import argparse
import json
from typing import Any

from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.statistics.incidents import excuses
from basinet.launch.cli.experiment_words import find_experiment
from basinet.launch.cli.output import DONE, say, write, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.previews.explaining import explained, in_ranges
from basinet.launch.previews.small_steps import alone_ahead
from basinet.launch.progress_bar import checking, how_many
from basinet.launch.stages import plan_all
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.experiment.pipeline import read_experiment
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.runtimes.world import started, world
from basinet.sim.setup.memory import in_units
from basinet.sim.setup.room import check_room

__all__ = ["execute"]

_MOST_RANGES = 60
"""Most characters of what a worker hosts; JSON holds all."""


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    if started() and world()[0] > 0:  # the first rank explains for all
        return DONE
    file, overrides = find_experiment(options.words)
    experiment = read_experiment(file, overrides)
    with checking(len(experiment.runs), quiet=options.quiet) as progress:
        stages = plan_all(experiment, check=check_analysis, progress=progress)
    setups = {f"{stage}/{name}".lstrip("/"): s for stage, (found, _) in stages.items() for name, s in found.items()}
    impossible = {name: why for _, left_out in stages.values() for name, why in left_out.items()}
    alike: dict[str, tuple[dict[str, Any], list[str]]] = {}
    advice: dict[str, str | None] = {}
    for (name, setup), seats in zip(setups.items(), check_room(setups.values()), strict=True):
        explanation = explained(setup, seats)
        alike.setdefault(text := json.dumps(explanation), (explanation, []))[1].append(name)
        if text not in advice and (explanation["crossing_rows"] or explanation["summed"]):
            advice[text] = alone_ahead(setup, seats)
    if options.json:
        write_json([{"runs": names, **explanation} for explanation, names in alike.values()])
    else:
        for explanation, names in alike.values():
            _show(names if len(alike) > 1 else [how_many(len(names))], explanation)
    for sentence in (*excuses(impossible), *dict.fromkeys(filter(None, advice.values()))):
        say(sentence)
    if not started() and any(runtime_of(setup.config.runtime).on_ranks for setup in setups.values()):
        say("no ranks have been started: explained for a single one; start this by torchrun, too, for more")
    say("nothing started, nothing written")
    return DONE


def _show(names: list[str], explanation: dict[str, Any]) -> None:
    workers = explanation["workers"]
    write(f"{', '.join(names)}: {count_of(len(workers), 'worker')}, runtime {explanation['runtime']}")
    rows = []
    for rank, worker in enumerate(workers):
        place = [str(rank), worker["machine"], worker["device"], str(worker["threads"]), _hosted(worker["hosts"])]
        sent = [_number(worker[key]) for key in ("sends", "receives")]
        rows.append([*place, *sent, in_units(sum(worker["memory"].values()))])
    write_table(("worker", "machine", "device", "threads", "hosts", "sends rows", "receives rows", "memory"), rows)
    write(*_travelling(explanation), _memory(workers))


def _hosted(hosts: dict[int, list[int]]) -> str:
    """Write which agents a worker hosts, replicas with the same ones together."""
    alike: dict[str, list[int]] = {}
    for replica, agents in hosts.items():
        alike.setdefault(in_ranges(agents), []).append(replica)
    parts = [f"replica{'s' if len(some) > 1 else ''} {in_ranges(some)}: agents {on}" for on, some in alike.items()]
    text = "; ".join(parts)
    return text if len(text) <= _MOST_RANGES else f"{text[:_MOST_RANGES]}…"


def _travelling(explanation: dict[str, Any]) -> list[str]:
    """Say what travels between workers in a combine, and what between agents in the simulation."""
    rows, size, pair = (explanation[key] for key in ("crossing_rows", "crossing_bytes", "largest_pair"))
    lines = []
    if pair is not None:
        lines.append(
            f"between workers: {_number(rows)} rows per combine, {in_units(size)} if they are parameters; most from"
            f" worker {pair[0]} to {pair[1]}, {_number(pair[2])}"
        )
    if explanation["summed"]:
        lines.append("between workers: sums over the agents of a replica, by all-reduce")
    lines = lines or ["between workers: nothing in a step"]
    simulated = explanation["simulated_bytes"]
    said = "not the same in each period" if simulated is None else f"{in_units(simulated)} per step"
    return [*lines, f"between agents, as simulated: {said}"]


def _number(count: float) -> str:
    """Write a mean number of rows."""
    return f"{count:.2f}".rstrip("0").rstrip(".")


def _memory(workers: list[dict[str, Any]]) -> str:
    """Say what takes the memory of the worker that needs most."""
    most = max((worker["memory"] for worker in workers), key=lambda memory: sum(memory.values()))
    parts = [f"{what} {in_units(size)}" for what, size in most.items() if size]
    return f"memory of the largest worker, estimated, besides torch itself: {', '.join(parts)}"
