"""What state runs are in: what they say of themselves, and whether somebody works on them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from basinet.launch.serve.study_index import Entry, StudyIndex
from basinet.launch.status.holder import Holder, holder_of, worker_on
from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.run.execution.usage_record import load_usage
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import FINISHED, PIPELINE, SEARCH

__all__ = ["RESUMABLE", "STATES", "RunState", "look", "outermost"]

RESUMABLE = ("dead", "interrupted")
"""States of runs that go on if the command is given again; so do those that failed since a rank was lost."""

STATES = ("running", "waiting", "paused", *RESUMABLE, *FINISHED, "failed", "damaged")
"""All states. Paused is a run that a search has stopped early; damaged, one whose files cannot be read."""


_LEAST_PATIENCE = 120.0
"""Seconds of silence that are not mentioned, however often a run has given signs of life."""

_PAUSES = 20
"""How many times its longest pause so far a run may be silent before that is mentioned."""


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    Attributes:
        name: Its folder, as seen from the one that was asked about.
        folder: Its folder.
        experiment: The folder of the command that carries it out.
        state: One of `STATES`.
        step: The last step that it has reached.
        steps: Number of its steps; None if that is not known.
        seconds_left: Time left at the speed so far; None unless it runs.
        silence: Seconds since its last sign of life; None if there was none.
        attended: Whether a process works in its folder, on this run or another one.
        metric: Its main metric; None if nothing was measured.
        quantity: What the metric is called.
        value: Mean of its last values over the replicas.
        workers: What each worker uses, see `UsageMeter.read`.
        sent_per_second: Bytes that all workers together send in a second; None if that is not known.
        goes_on: Whether it goes on if the command is given again, and nobody works on it.
        why: Why it failed, is dead, may hang or cannot be read; "" otherwise.
    """

    name: str
    folder: Path
    experiment: Path
    state: str
    step: int
    steps: int | None
    seconds_left: float | None
    silence: float | None
    attended: bool
    metric: str | None
    quantity: Quantity | None
    value: float | None
    workers: Sequence[Mapping[str, Any]]
    sent_per_second: float | None
    goes_on: bool
    why: str


def look(folder: Path) -> tuple[list[RunState], list[str]]:
    """Look at all runs below a folder.

    Args:
        folder: The folder of a run, of an experiment, or of several.

    Returns:
        The runs, those of the experiment that has changed last first; and a sentence for each part of the folder that
        cannot be read.

    Raises:
        ExperimentError: There are no runs.
    """
    if not folder.is_dir():
        raise ExperimentError(f"DIR: {folder} is no folder; give one that `basinet run` wrote, or one that holds such")
    index = StudyIndex(folder)
    index.refresh(float("inf"))
    entries = index.entries()
    if not entries and not index.problems:
        raise ExperimentError(f"DIR: {folder} holds no runs; give one that `basinet run` wrote, or one that holds such")
    outer, alive, workers = cache(outermost), set[Path](), dict[Path, Holder | None]()
    changed: dict[Path, float] = {}
    known = cache(holder_of)
    for entry in entries:
        experiment = outer(entry.path)
        changed[experiment] = max(entry.changed, changed.get(experiment, 0.0))
        folders = [*_locked(entry.path)]
        workers[entry.path] = worker_on(folders, known)
        if any(not holder.has_ended() for holder in map(known, folders) if holder is not None):
            alive.add(experiment)
    entries.sort(key=lambda entry: -changed[outer(entry.path)])
    now = time.time()

    def state(entry: Entry) -> RunState:
        experiment = outer(entry.path)
        worker = workers[entry.path]
        left = "" if worker is None or not worker.has_ended() else str(worker)
        attended = worker is not None and not left if entry.state == "running" else experiment in alive
        return _state_of(entry, now, experiment, left, attended=attended)

    return [*map(state, entries)], index.problems


def outermost(run: Path) -> Path:
    """Return the folder of the command that carries out a run: of an experiment, of its stages, or of its search.

    Args:
        run: The run's folder.

    Returns:
        The folder.
    """
    *_, folder = _locked(run)
    return folder.parent if (folder.parent / PIPELINE).exists() else folder


def _locked(run: Path) -> Iterator[Path]:
    """Yield the folders that a process may have locked which works on a run, the closest first."""
    yield run
    yield run.parent
    if run.parent.parent.name == SEARCH:
        yield run.parent.parent.parent


def _state_of(entry: Entry, now: float, experiment: Path, gone: str, *, attended: bool) -> RunState:
    """Describe a run; `gone` is the process that has left its lock behind, if any."""
    status, config, usage = entry.status, entry.config, load_usage(entry.path)
    silence = max(0.0, now - entry.changed) if entry.changed else None
    state = _judged(entry.state, attended=attended, left=bool(gone))
    why = " ".join(str(status.get("error", "")).split()) or entry.problem
    if state == "dead":
        why = f"{gone} has ended without leaving word" if gone else "no process works on it"
    elif state == "running" and silence is not None and usage:
        pause = usage["longest_pause"]
        if silence > max(_LEAST_PATIENCE, _PAUSES * pause):
            why = f"no sign of life for {silence:,.0f} s, after pauses of at most {pause:.1f} s"
    step, steps = int(status.get("step", 0)), status.get("steps", config.get("steps"))
    workers, seconds = usage.get("workers", []), usage.get("seconds", 0.0)
    taken = usage["step"] - usage["from_step"] if usage else 0
    sent = sum(worker["sent_bytes"] for worker in workers)
    metric = next((name for name in (*status.get("quantities", {}), "train_loss") if name in entry.finals), None)
    return RunState(
        name=entry.id,
        folder=entry.path,
        experiment=experiment,
        state=state,
        step=step,
        steps=steps,
        seconds_left=seconds / taken * (steps - step) if state == "running" and taken and steps else None,
        silence=silence,
        attended=attended,
        metric=metric,
        quantity=entry.quantities.get(metric) if metric is not None else None,
        value=entry.finals[metric][0] if metric is not None else None,
        workers=workers,
        sent_per_second=sent / seconds if seconds and len(workers) > 1 else None,
        goes_on=state in RESUMABLE or (state == "failed" and not attended and bool(status.get("goes_on"))),
        why=why,
    )


def _judged(said: str, *, attended: bool, left: bool) -> str:
    """Judge what a run says of itself by whether a process works in its folder, or one has left its lock behind."""
    if said == "running":
        return "running" if attended else "dead"
    if said in ("waiting", "interrupted"):
        return "waiting" if attended else "dead" if left else "interrupted"
    if said == "paused":
        return "dead" if left and not attended else "paused"
    return said
