"""The simulation: executes the runs of an experiment, writes their folders, and resumes them."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.checkpoints.tensor_files import check_form
from basinet.sim.run.claim import claim
from basinet.sim.run.execution.one_run import Circumstances, execute
from basinet.sim.run.execution.twins import groups
from basinet.sim.run.files import Damaged
from basinet.sim.run.folder import RunFolder
from basinet.sim.run.lock import AtWork, locked, turn
from basinet.sim.run.monitor import USUAL, Monitor, Rhythm
from basinet.sim.run.records import FINISHED, load_config, load_status
from basinet.sim.run.resume import is_analyzed, is_whole
from basinet.sim.runtimes.runtime import runtime_of, runtimes_of
from basinet.sim.runtimes.team import Analysis
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.room import check_disk, check_room
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.sharing import Shared
from basinet.sim.tasks.kept import identities, made_otherwise

__all__ = ["Interrupted", "RunFailed", "build", "prepare", "simulate"]

_log = logging.getLogger(__name__)


class Interrupted(Exception):
    """The simulation was asked to stop; its progress is on disk."""


class RunFailed(Exception):
    """One or more runs have failed.

    Args:
        message: One sentence per failed run: why it failed, and where its traceback is.
        results: The experiment's results on disk, if it was executed by `basinet.run`.
    """

    def __init__(self, message: str, results: Any = None) -> None:
        super().__init__(message, results)
        self.results = results

    def __str__(self) -> str:
        return str(self.args[0])


def build(
    experiment: Experiment,
    *,
    check: Callable[[Setup], None] = lambda setup: None,
    progress: Callable[[int], None] = lambda done: None,
    out: Path | None = None,
) -> tuple[dict[str, Setup], dict[str, str]]:
    """Build the parts of all runs, and check everything that can be checked before a run.

    Args:
        experiment: The experiment.
        check: Raises if something else is impossible, such as the analysis.
        progress: Called with the number of runs built so far.
        out: The experiment's folder; its runs that are finished and analysed need no trial run.

    Returns:
        The parts of each run by name; and why runs are left out, if the experiment skips impossible ones.

    Raises:
        ExperimentError: Something is impossible, or nothing is possible.
    """
    setups: dict[str, Setup] = {}
    impossible: dict[str, str] = {}
    shared = Shared()
    for done, name in enumerate(_new_first(experiment.runs)):
        progress(done)
        try:
            setup = _built_before(experiment.runs[name], shared, out / name) if out is not None else None
            if setup is None:
                setup = build_setup(experiment.runs[name], shared)
                check(setup)
        except ExperimentError as error:
            if not experiment.skips_impossible:
                raise
            impossible[name] = str(error)
        else:
            setups[name] = setup
    progress(len(experiment.runs))
    if not setups:
        raise ExperimentError(
            f"skip: none of the {len(impossible)} runs is possible: {next(iter(impossible.values()))}"
        )
    in_order = [name for name in experiment.runs if name in setups]
    return {name: setups[name] for name in in_order}, impossible


def _built_before(config: Config, shared: Shared, path: Path) -> Setup | None:
    """Build the parts of a run without a trial run, if it is finished and analysed."""
    try:
        folder = RunFolder(path, load_config(path))
        if folder.config != config.describe() or not is_whole(folder):
            return None
    except (FileNotFoundError, Damaged):  # handled later
        return None
    setup = build_setup(config, shared, trial=False)
    return setup if is_analyzed(setup, folder, load_status(path)) else None


def _new_first(runs: Mapping[str, Config]) -> Iterator[str]:
    """Order runs so that each value of a key occurs as early as possible and impossible ones are found soon."""
    seen: set[tuple[str, Any]] = set()
    later = []
    for name, config in runs.items():
        values = {(key, value if isinstance(value, int | float | str) else id(value)) for key, value in config}
        if values <= seen:
            later.append(name)
        else:
            seen |= values
            yield name
    yield from later


def prepare(
    experiment: Experiment,
    out: Path,
    *,
    fresh: bool = False,
    shared: bool = False,
    check: Callable[[Setup], None] = lambda setup: None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Setup]:
    """Check everything that can be checked before a run, and only then create the experiment's folder.

    Args:
        experiment: The experiment.
        out: Its folder.
        fresh: Whether to discard what the folder holds, of this experiment or another.
        shared: Whether other processes may be at work on runs of the same experiment in the folder.
        check: Raises if something else is impossible, such as the analysis.
        progress: Called with the number of runs built so far.

    Returns:
        The parts of each run by name; the record in the folder says which runs are left out, and why.

    Raises:
        ExperimentError: Something is impossible, or the folder belongs to another experiment.
    """
    unfinished: list[Setup] = []

    def fits(setup: Setup) -> None:
        if setup.config.start is not None:
            setup.config.start.check_reached()
        runtime_of(setup.config.runtime).check(setup)
        check(setup)
        unfinished.append(setup)

    setups, impossible = build(experiment, check=fits, progress=progress, out=None if fresh else out)
    check_room(unfinished)
    check_disk(setups, out)
    if out.exists() and not out.is_dir():
        raise ExperimentError(f"--out: {out} is a file; choose a folder")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, shared=shared), turn(out) if shared else nullcontext():
        if not fresh:
            for name, setup in setups.items():
                _check_goes_on(setup, RunFolder(out / name))
        claim(experiment, out, impossible, fresh=fresh)
    return setups


def _check_goes_on(setup: Setup, folder: RunFolder) -> None:
    """Raise if a run would go on with other tokens, say, than it began with, or from what a later version wrote."""
    try:
        status = load_status(folder.path)
    except Damaged:  # handled later
        return
    with suppress(Damaged):
        if status["state"] in FINISHED and is_analyzed(setup, folder, status):
            return
    for path in folder.checkpoints():
        check_form(path)
    if others := made_otherwise(status.get("kept", {}), identities(setup.task.kept)):
        raise ExperimentError(
            f"task.{others[0]}: {folder.path} began with other {others[0]} than are made of the data now; choose"
            " another folder, or --fresh (fresh=True) starts anew"
        )


def simulate(
    setups: Mapping[str, Setup],
    out: Path,
    monitor: Monitor,
    stop: threading.Event,
    analysis: Analysis | None = None,
    rhythm: Rhythm = USUAL,
    until: Mapping[str, int] | None = None,
    shared: bool = False,
) -> dict[str, str]:
    """Execute all runs that are not finished.

    Their runtime decides whether runs are executed in parallel or in turn. Of runs that differ only in a graph that
    their strategy does not use, one is executed, and the others copy its results.

    Args:
        setups: The parts of each run by name.
        out: The experiment's folder.
        monitor: Receives the progress of the runs.
        stop: Set to stop at the next opportunity; every run then writes a checkpoint.
        analysis: What the workers do with the last state of a run.
        rhythm: Intervals at which a run is attended to.
        until: Step at which each run pauses, by name; all go to their end if None. A run that is there, or further,
            stays as it is, and one that has paused goes on when it is called again with a later step.
        shared: Whether other processes may be at work on runs of the same experiment, which are left to them.

    Returns:
        The state in which each run ended: done, diverged, failed or paused.

    Raises:
        Interrupted: `stop` was set.
    """
    states: dict[str, str] = {}
    twins = groups(setups)
    given = Circumstances(monitor, stop, analysis, rhythm)

    def in_turn(names: list[str]) -> None:
        for name in names:
            if not stop.is_set():
                source = next((RunFolder(out / twin) for twin in names if states.get(twin) in FINISHED), None)
                folder, end = RunFolder(out / name), None if until is None else until[name]
                try:
                    with locked(folder.path) if shared else nullcontext():
                        states[name] = execute(name, setups[name], folder, given, source, end)
                except AtWork:
                    monitor.finished(name, "left to another process, which is at work on it")

    with locked(out, shared=shared):
        for name, runtime in runtimes_of(setup.config for setup in setups.values()).items():
            mine = [names for names in twins if setups[names[0]].config.runtime.name == name]
            parts = [setups[names[0]].config.runtime for names in mine]
            if mine:
                runtime.carry_out([partial(in_turn, names) for names in mine], parts)
    if stop.is_set():
        ended = sum(state != "interrupted" for state in states.values())
        raise Interrupted(
            f"stopped after {ended} of {len(setups)} runs; the progress is in {out}, and the same experiment into that"
            " folder continues from there"
        )
    return {name: states[name] for name in setups if name in states}
