"""`basinet advise`: which graph to train on, given a network."""

import argparse
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from basinet.analysis.advice.advice import Advice, Advised, Changed, advise, what_if
from basinet.analysis.advice.question import CRITERIA, Criterion, Question
from basinet.launch.cli.output import DONE, say, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.previews.asking import problem_of, question_of
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.files import plain_file
from basinet.topologies.networks import show_size, show_time

__all__ = ["execute"]

_ENDINGS = (".png", ".pdf", ".svg")
_GOALS: Mapping[Criterion, str] = {"accuracy": "to accuracy", "agreement": "to agreement", "round": "per step"}


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    if options.plot is not None and options.plot.suffix not in _ENDINGS:
        allowed = ", ".join(_ENDINGS)
        raise ExperimentError(f"--plot: {options.plot} is not the name of a picture; allowed endings: {allowed}")
    question = question_of(options)
    problem, measured = problem_of(options)
    question = replace(question, problem=problem)
    advice = advise(question)
    changed = what_if(question, advice)
    files = {} if options.write is None else _write_graphs(advice, options.write)
    if options.json:
        write_json(_plain(question, advice, changed, files))
    else:
        write_table(*_choices(advice))
        write_table(*_changes(advice, changed))
        say(f"{question.network.agents} agents, {show_size(advice.size)}, ranked by time {_GOALS[advice.by]}")
    if measured:
        say(measured)
    network = question.network
    if network.routes is None and np.isinf(network.ports.up).all() and np.isinf(network.ports.down).all():
        say("agents send along all of their links at once, at full bandwidth; access={up: …, down: …} limits their own")
    for name, reason in advice.left_out.items():
        say(f"without {name}: {reason}")
    for name, described in files.items():
        say(f"{name}: topology: {_in_yaml(described)}")
    if options.plot is not None:
        from basinet.analysis.advice.advice_picture import draw_advice

        options.plot.parent.mkdir(parents=True, exist_ok=True)
        draw_advice(advice).savefig(plain_file(options.plot), dpi=150)
        say(f"picture: {options.plot}")
    return DONE


def _choices(advice: Advice) -> tuple[list[str], list[list[str]]]:
    goals = [goal for goal in CRITERIA if any(goal in one.steps for one in advice.choices)]
    rows = []
    for one in advice.choices:
        step, error = one.time.step, one.time.error
        doubt = f" ±{error / step:.0%}" if error > 0.005 * step else ""
        row = [one.name, "" if one.neighbours is None else str(one.neighbours), show_time(round(step)) + doubt]
        row += [f"{one.time.bound} {one.time.parts[one.time.bound] / step:.0%}" if step else "", one.time.critical]
        rows.append(row + [_needed(one, goal) for goal in goals])
    return ["", "neighbours", "a step", "bound by", "critical", *(f"{_GOALS[goal]} (steps)" for goal in goals)], rows


def _needed(one: Advised, goal: Criterion) -> str:
    steps = one.steps.get(goal)
    if steps is None:
        return ""
    return f"{_time(one.needs(goal))} ({steps:,.0f})" if math.isfinite(steps) else "never"


def _changes(advice: Advice, found: Mapping[str, Changed]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for what, changed in found.items():
        best, *others = changed.needs
        order = f"then {', '.join(others[:2])}" if changed.changes else "as before"
        rows.append([what, best, _time(changed.needs[best]), order])
    return ["if there were", "best", f"time {_GOALS[advice.by]}", "order"], rows


def _time(nanoseconds: float) -> str:
    return show_time(round(nanoseconds)) if math.isfinite(nanoseconds) else "never"


def _write_graphs(advice: Advice, folder: Path) -> dict[str, dict[str, Any]]:
    """Write the graphs that were designed for the network; return how an experiment names them."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for one in advice.choices:
        if isinstance(one.topology, nx.Graph):
            file = folder / f"{one.name}.txt"
            plain_file(file).write_text("".join(f"{u} {v}\n" for u, v in one.topology.edges))
            found[one.name] = {"name": "edge_list", "path": str(file), "agents": len(one.topology)}
            if one.topology.is_directed():
                found[one.name] |= {"directed": True, "policy": "uniform"}
    return found


def _in_yaml(described: Mapping[str, Any]) -> str:
    words = {key: str(value).lower() if isinstance(value, bool) else value for key, value in described.items()}
    return "{" + ", ".join(f"{key}: {value}" for key, value in words.items()) + "}"


def _plain(
    question: Question, advice: Advice, found: Mapping[str, Changed], files: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return advice as plain values, times in seconds; None for what is infinite."""
    return {
        "ranked_by": advice.by,
        "bytes": advice.size,
        "problem": asdict(question.problem),
        "choices": [_of_choice(one, files.get(one.name)) for one in advice.choices],
        "left_out": dict(advice.left_out),
        "if": {
            what: {
                "order_changes": changed.changes,
                "seconds": {name: _seconds(needs) for name, needs in changed.needs.items()},
            }
            for what, changed in found.items()
        },
    }


def _of_choice(one: Advised, file: Mapping[str, Any] | None) -> dict[str, Any]:
    topology: Any = one.topology
    if isinstance(topology, nx.Graph):
        topology = file or {"edges": [list(edge) for edge in topology.edges], "directed": topology.is_directed()}
    return {
        "name": one.name,
        "topology": topology,
        "neighbours": one.neighbours,
        "seconds_per_step": one.time.step / 1e9,
        "standard_error": one.time.error / 1e9,
        "parts": {part: takes / 1e9 for part, takes in one.time.parts.items()},
        "bound": one.time.bound,
        "critical": one.time.critical,
        **{f"steps_to_{goal}": steps if math.isfinite(steps) else None for goal, steps in one.steps.items()},
        **{f"seconds_to_{goal}": _seconds(one.needs(goal)) for goal in one.steps},
    }


def _seconds(nanoseconds: float) -> float | None:
    return nanoseconds / 1e9 if math.isfinite(nanoseconds) else None
