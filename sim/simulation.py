"""The simulation: carries out the runs of an experiment, writes their folders, resumes what was begun."""

import math
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from basinet.sim.analyzed import Analyzed, analysis_settings
from basinet.sim.component import Change, ExperimentError, changes
from basinet.sim.config import KINDS, Config
from basinet.sim.digest import importable, plain
from basinet.sim.experiment import Experiment
from basinet.sim.files import (
    NOTHING,
    Damaged,
    GrowingFile,
    Vouched,
    discard,
    discard_leftovers,
    inside,
    is_leftover,
    plain_file,
    sealed_yaml,
    write_atomically,
)
from basinet.sim.folder import RunFolder
from basinet.sim.lock import locked
from basinet.sim.mistakes import first_line
from basinet.sim.records import (
    FINISHED,
    METRICS,
    Row,
    essence,
    is_begun,
    lines_of,
    load_config,
    load_record,
    load_status,
    read_lines,
)
from basinet.sim.resume import latest, lost_step, sound_status
from basinet.sim.room import check_disk
from basinet.sim.runtimes import InlineTeam, Stopped, Team
from basinet.sim.setup import Setup
from basinet.sim.shared import Shared
from basinet.sim.state import checkpoint_bytes, load_checkpoint, take_rows
from basinet.sim.trajectory import FILE, TrajectoryWriter
from basinet.sim.twins import groups, take_over
from basinet.sim.worker import Analysis, measure_some

__all__ = ["Interrupted", "Monitor", "RunFailed", "build", "prepare", "simulate", "versions"]

_SLICE = 0.5
"""Seconds of work between two looks at the clock: progress is shown, and an interruption heeded, so often."""

_CHECKPOINT_SECONDS = 15.0
"""Seconds between two checkpoints, or more where writing one takes long; one more is written at the end."""

_FIRST_CHECKPOINT_SECONDS = 2.0
"""Seconds until the first one, or more where the state is large."""

_BYTES_A_SECOND = 1e8
"""How fast the first checkpoint is expected to be written, before any has been."""

_CHECKPOINT_SHARE = 0.05
"""Part of the time that checkpoints may take."""


_ESCAPE = "escape_step"


class Interrupted(Exception):
    """The simulation was asked to stop; everything reached is on disk."""


class RunFailed(Exception):
    """A run has failed.

    Args:
        message: A sentence for each run that has: why, and where its traceback is.
        results: What the experiment has left on disk, if it was carried out by `basinet.run`.
    """

    def __init__(self, message: str, results: Any = None) -> None:
        super().__init__(message, results)
        self.results = results

    def __str__(self) -> str:
        return str(self.args[0])


class Monitor(Protocol):
    """Is told how the runs go; called from several threads."""

    def started(self, run: str, step: int, num_steps: int, agents: int, engine: str) -> None:
        """A run begins, or resumes at a step."""

    def advanced(self, run: str, step: int, rows: list[Row]) -> None:
        """A run has reached a step; `rows` holds measurements if some were taken."""

    def waiting(self, run: str, what: str) -> None:
        """A run cannot begin yet, for want of something."""

    def analyzing(self, run: str, done: int, total: int) -> None:
        """A run has taken its last step, and so many of its replicas have been analysed."""

    def finished(self, run: str, state: str) -> None:
        """A run is done (maybe as another), diverged, interrupted, failed ("failed: " and why), or was so before."""


def build(
    experiment: Experiment,
    *,
    check: Callable[[Setup], None] = lambda setup: None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, Setup], dict[str, str]]:
    """Build the parts of all runs and check everything that can be checked before a run.

    Args:
        experiment: The experiment.
        check: Refuses what else cannot be had, such as the analysis.
        progress: Is told how many runs have been looked at.

    Returns:
        The parts of each run by its name; and why runs are left out, if the experiment skips what is impossible.

    Raises:
        ExperimentError: Something cannot be had, or nothing is possible.
    """
    setups: dict[str, Setup] = {}
    impossible: dict[str, str] = {}
    shared = Shared()
    for done, name in enumerate(_new_first(experiment.runs)):
        progress(done)
        try:
            setup = Setup.build(experiment.runs[name], shared)
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


def _new_first(runs: Mapping[str, Config]) -> Iterator[str]:
    """Order runs so that a value of a key is first met as early as can be: what cannot be had is soon found."""
    seen: set[tuple[str, Any]] = set()
    later = []
    for name, config in runs.items():
        values = {(key, value if isinstance(value, int | float | str | tuple) else id(value)) for key, value in config}
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
    check: Callable[[Setup], None] = lambda setup: None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Setup]:
    """Check everything that can be checked before a run, and only then make the experiment's folder.

    Args:
        experiment: The experiment.
        out: Its folder.
        fresh: Whether to discard what the folder holds of another experiment, or of this one.
        check: Refuses what else cannot be had, such as the analysis.
        progress: Is told how many runs have been looked at.

    Returns:
        The parts of each run by its name; the record in the folder says which runs are left out, and why.

    Raises:
        ExperimentError: Something cannot be had, or the folder belongs to another experiment.
    """

    def fits(setup: Setup) -> None:
        if setup.config.runtime.name == "torchrun":
            from basinet.sim.runtimes.torchrun import check_ranks

            check_ranks(setup)
        check(setup)

    setups, impossible = build(experiment, check=fits, progress=progress)
    check_disk(setups, out)
    if out.exists() and not out.is_dir():
        raise ExperimentError(f"--out: {out} is a file; choose a folder")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _claim(experiment, out, impossible, fresh=fresh)
    return setups


def _claim(experiment: Experiment, out: Path, impossible: Mapping[str, str], *, fresh: bool) -> None:
    """Make the experiment's folder, or find that it is another experiment's."""
    path = out / "experiment.yaml"
    description = {name: config.describe() for name, config in experiment.runs.items()}
    written: set[str] = set()
    discard_leftovers(out)
    if fresh:
        _discard(out, description)
    elif any(not is_leftover(entry) for entry in out.iterdir()):
        written = _check_same(out, description)
    record = sealed_yaml(_record(experiment, impossible))
    # The record comes first: a folder with runs and without it would be nobody's.
    if not plain_file(path).exists() or path.read_bytes() != record.encode():
        write_atomically(path, record)
    for name, config in description.items():
        if name not in impossible and name not in written:
            RunFolder(inside(out, name)).write_config(config)


def _check_same(out: Path, description: Mapping[str, Any]) -> set[str]:
    """Refuse a folder that holds something else than these runs; return those whose configuration is in it as it is."""
    folders = {name: inside(out, name) for name in description}
    if (out / "experiment.yaml").exists():
        record = load_record(out)
        named = {*record.get("runs", []), *record.get("impossible", [])}
    else:  # it has been lost; what the folder holds must be these runs, and no other
        named = {file.parent.name for file in out.glob("*/config.yaml")}
        if not named:
            raise ExperimentError(f"--out: {out} is not empty and holds no experiment; choose another folder")
        named |= {*description} if named <= {*description} else set()
    differences = [] if named == {*description} else [Change()]
    written = set()
    for name, config in description.items():
        if is_begun(folders[name]):
            if (
                plain_file(folders[name] / "config.yaml").read_bytes() == sealed_yaml(config).encode()
            ):  # sooner than reading it
                written.add(name)
                continue
            try:
                old = load_config(folders[name])
            except Damaged:
                if (folders[name] / "status.json").exists():
                    raise
                continue  # it was lost with the power before the run began
            differences += _differences(old, config)
    if Change() in differences:
        raise ExperimentError(
            f"--out: {out} holds another experiment; choose another folder, or --fresh (fresh=True) to discard it"
        )
    if differences:
        raise ExperimentError(f"{differences[0].sentence}; choose another folder, or --fresh (fresh=True) starts anew")
    return written


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Compare the run in a folder with one; where and how they are executed does not matter."""
    before, now = essence(old), essence(new)
    for key in dict.fromkeys([*now, *before]):
        yield from changes(key, before.get(key), now.get(key))


def _discard(out: Path, description: Mapping[str, Any]) -> None:
    """Remove the runs that the folder's record or the new experiment names, and nothing else."""
    try:
        recorded = {*load_record(out).get("runs", [])} if (out / "experiment.yaml").exists() else set()
    except Damaged:
        recorded = set()
    for name in sorted({*recorded, *description}):
        folder = inside(out, name)
        if name in recorded or (folder / "config.yaml").exists():
            discard(folder)
        elif folder.exists() and any(not is_leftover(entry) for entry in folder.iterdir()):
            raise ExperimentError(f"--out: {folder} holds no run; choose another folder, or move it away")


def _record(experiment: Experiment, impossible: Mapping[str, str]) -> dict[str, Any]:
    """Write down the experiment as given, what no file can hold of it, its runs, and the versions that run it."""
    objects = list(dict.fromkeys(_objects(experiment.description)))
    return {
        **plain(experiment.description, importable),
        **({"objects": objects} if objects else {}),
        "runs": [name for name in experiment.runs if name not in impossible],
        **({"impossible": dict(impossible)} if impossible else {}),
        "versions": versions(),
    }


def _objects(given: Any, *path: str) -> Iterator[str]:
    """Find the keys, at the top, under which there are objects that no file can name."""
    if isinstance(given, Mapping):
        for key, value in given.items():
            yield from _objects(value, *path, str(key))
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _objects(value, *path)
    elif not isinstance(given, bool | int | float | str | np.generic | os.PathLike | None):
        chosen = path[-1] == "name" or path[-1] in KINDS
        if not (chosen and importable(given)):
            yield path[0]


def versions() -> dict[str, str]:
    """Look up what runs an experiment.

    Returns:
        The version of each package that results may depend on.
    """
    packages = ("basinet", "torch", "numpy", "scipy", "networkx", "ray")
    return {package: version(package) for package in packages}


def simulate(
    setups: Mapping[str, Setup],
    out: Path,
    monitor: Monitor,
    stop: threading.Event,
    analysis: Analysis | None = None,
) -> dict[str, str]:
    """Carry out all runs that are not finished.

    Runs on Ray go side by side, as many as the cluster holds; others follow one another. Of runs that differ in nothing
    but a graph which their strategy does not use, one is carried out, and the others take over what it has found.

    Args:
        setups: The parts of each run by its name.
        out: The experiment's folder.
        monitor: Is told how the runs go.
        stop: Set it to stop at the next occasion; every run then writes a checkpoint.
        analysis: What the workers do with the last state of a run.

    Returns:
        The state in which each run ended: done, diverged or failed.

    Raises:
        Interrupted: `stop` was set.
    """
    on_ray = [name for name, setup in setups.items() if setup.config.runtime.name == "ray"]
    states: dict[str, str] = {}

    twins = {name: group for group in groups(setups) for name in group}

    def one(name: str) -> None:
        if not stop.is_set():
            source = next((out / twin for twin in twins[name] if states.get(twin) in FINISHED), None)
            states[name] = _run(name, setups[name], RunFolder(out / name), monitor, stop, analysis, source)

    def in_turn(names: list[str]) -> None:
        for name in names:
            one(name)

    with locked(out), _ray_cluster() if on_ray else nullcontext():
        if on_ray:
            from basinet.sim.runtimes.ray import runs_that_fit

            parallel = min(runs_that_fit(setups[name].config) for name in on_ray)
            with ThreadPoolExecutor(parallel) as pool:
                list(pool.map(in_turn, {id(twins[name]): twins[name] for name in on_ray}.values()))
        for name in setups:
            if name not in on_ray:
                one(name)
    if stop.is_set():
        ended = sum(state != "interrupted" for state in states.values())
        raise Interrupted(
            f"stopped after {ended} of {len(setups)} runs; everything reached is in {out}, and the same experiment into"
            " that folder goes on from there"
        )
    return {name: states[name] for name in setups}


@contextmanager
def _ray_cluster() -> Iterator[None]:
    from basinet.sim.runtimes.ray import cluster

    with cluster():
        yield


def _run(
    name: str,
    setup: Setup,
    folder: RunFolder,
    monitor: Monitor,
    stop: threading.Event,
    analysis: Analysis | None,
    source: Path | None,
) -> str:
    """Carry out one run; what goes wrong in it is recorded in its folder and ends it alone."""
    note, lost = "", None
    try:
        status = sound_status(folder)
        begun = folder.checkpoint.exists() and "takes_over" not in status
        if source is not None and status["state"] not in FINISHED and not begun:
            _tables(setup, folder)
            take_over(source, folder)
            status, note = load_status(folder.path), f", as {source.name}"
        reached = str(status["state"])
        if reached in FINISHED:
            if analysis is None or _is_analyzed(setup, folder, status):
                monitor.finished(name, reached + note)
                return reached
            lost = lost_step(folder, _kept_steps(setup, status["step"]), analysis_settings(setup))
        saved = latest(folder, lost)
        is_reached = saved is not None and reached in FINISHED and saved["step"] == status["step"]
        engine = saved["engine"] if saved else setup.config.runtime.engine
        with _team(setup, engine, stop, lambda what: monitor.waiting(name, what)) as team:
            progress = _Progress(name, setup, folder, team, monitor)
            if saved and str(status.get("engine")).startswith(f"{saved['engine']} "):
                progress.engine = status["engine"]  # with the reason for which it was chosen at first
            state = progress.restore(saved, reached) if saved and is_reached else progress.go(saved, stop)
            if state in FINISHED and analysis is not None:
                state = progress.analyze(analysis, state, stop)
    except Stopped:
        state = "interrupted"
        folder.write_status(**status | {"state": state})
    except (Exception, SystemExit) as error:  # no code of the user's own ends the process
        reason = first_line(error)
        told = {"state": "failed", "error": reason, "traceback": traceback.format_exc()}
        try:
            status = load_status(folder.path)
        except Damaged:
            status = {"step": 0}
        try:
            folder.write_status(**status | told)
        except OSError as unwritten:  # the disk that has no room for the run may have none for this, either
            reason += f"; nor could its status be written: {first_line(unwritten)}"
        monitor.finished(name, f"failed: {reason}")
        return "failed"
    at = f" at step {load_status(folder.path)['step']} of {setup.num_steps}" if state == "interrupted" else ""
    monitor.finished(name, state + at + note)
    return state


def _kept_steps(setup: Setup, end: int) -> range:
    """List the steps whose states an experiment keeps, up to that at which a run has ended."""
    every = setup.config.keep_every
    return range(0, min(end + 1, setup.num_steps), every) if every else range(0)


def _is_analyzed(setup: Setup, folder: RunFolder, status: Mapping[str, Any]) -> bool:
    """Tell whether everything that the experiment asks for has been measured."""
    if not setup.config.analysis:
        return True
    replicas = set(range(setup.config.replicas)) - {int(replica) for replica in status.get("diverged", {})}
    settings = analysis_settings(setup)
    files = [*map(folder.kept, _kept_steps(setup, status["step"])), folder.checkpoint]
    known = [Analyzed(file, settings) for file in files]
    return not any(part.missing(setup.config, replica) for part in known for replica in replicas)


def _team(setup: Setup, engine: Any, stop: threading.Event, waiting: Callable[[str], None]) -> Team:
    if setup.config.runtime.name == "ray":
        from basinet.sim.runtimes.ray import RayTeam

        return RayTeam(setup, engine, stop, waiting)
    if setup.config.runtime.name == "torchrun":
        from basinet.sim.runtimes.torchrun import TorchrunTeam

        return TorchrunTeam(setup, engine, stop)
    return InlineTeam(setup, engine)


class _Progress:
    """One run on its way: what it has reached, and what is written about it."""

    def __init__(self, name: str, setup: Setup, folder: RunFolder, team: Team, monitor: Monitor) -> None:
        self.name = name
        self.setup = setup
        self.folder = folder
        self.team = team
        self.monitor = monitor
        self.diverged: dict[int, int] = {}
        self.escaped: set[int] = set()
        records = setup.config.trajectory is not None
        self.trajectory = TrajectoryWriter(folder.path, setup.evaluate_every, setup.num_steps) if records else None
        self.engine = team.engine_choice()
        self.loss = setup.task.about_loss
        self.saved_at = self.told_at = time.monotonic()
        parameters = sum(p.numel() for p in setup.template().parameters() if p.requires_grad)
        size = parameters * setup.num_agents * setup.config.replicas * 4
        expected = max(_FIRST_CHECKPOINT_SECONDS, size / _BYTES_A_SECOND / _CHECKPOINT_SHARE)
        self.pause = min(_CHECKPOINT_SECONDS, expected)

    def restore(self, saved: dict[str, Any], state: str) -> str:
        """Take up the last state of a run that has taken all of its steps; return the state of the run."""
        self.team.load(saved)
        self.diverged = dict(saved["diverged"])
        self._tell(saved["step"])
        return state

    def _tell(self, step: int) -> None:
        agents = self.setup.config.replicas * self.setup.num_agents
        self.monitor.started(self.name, step, self.setup.num_steps, agents, self.engine)

    def go(self, saved: dict[str, Any] | None, stop: threading.Event) -> str:
        """Advance from a checkpoint, if there is one, to the end; return the state in which the run ends."""
        step = self._begin(saved)
        setup, pace = self.setup, 1
        keep = setup.config.keep_every
        periods = [setup.evaluate_every, *([keep] if keep else [])]
        while step < setup.num_steps and not self._all_gone():
            if stop.is_set():
                self._checkpoint()
                return self._status(step, "interrupted")
            target = min(setup.num_steps, *((step // every + 1) * every for every in periods))
            taken = min(target - step, pace)
            start = time.monotonic()
            self.team.advance(step + taken)
            step += taken
            if stop.is_set():  # whoever interrupts may not wait for an evaluation
                self._checkpoint(looked=False)
                return self._status(step, "interrupted")
            # Slices of about the same duration, whatever a step costs.
            pace = max(1, min(2 * pace, round(taken * _SLICE / max(time.monotonic() - start, 1e-6))))
            self._look(step)
            if step < setup.num_steps and time.monotonic() - self.saved_at > self.pause:
                self._checkpoint()
            if time.monotonic() - self.told_at >= _SLICE:
                self._status(step, "running")
        self._checkpoint()
        self.folder.before.unlink(missing_ok=True)
        return self._status(step, "diverged" if self.diverged else "done")

    def _look(self, step: int) -> None:
        """Do what is due at a step: measure, and keep a checkpoint."""
        last, keep = step == self.setup.num_steps, self.setup.config.keep_every
        if step % self.setup.evaluate_every == 0 or last:
            self._measure(step)
        else:
            self.monitor.advanced(self.name, step, [])
        if keep and step % keep == 0 and not last:
            self.folder.write(self.folder.kept(step), self._state())

    def _all_gone(self) -> bool:
        """Whether no replica is left for which the run would have to go on."""
        escape = self.setup.config.escape
        gone = self.diverged.keys() | self.escaped if escape is not None and escape.stop else self.diverged
        return len(gone) == self.setup.config.replicas

    def analyze(self, analysis: Analysis, state: str, stop: threading.Event) -> str:
        """Let the workers analyse what was kept, and write down what they find; return the state of the run."""
        config = self.setup.config
        if not config.analysis:
            return state
        replicas = [replica for replica in range(config.replicas) if replica not in self.diverged]
        settings = analysis_settings(self.setup)
        known = {file: Analyzed(file, settings) for file in self.folder.checkpoints()}
        todo = [(file, r) for file in known for r in replicas if known[file].missing(config, r)]
        saved: dict[str, Any] = {}
        for done, (file, replica) in enumerate(todo):
            self.monitor.analyzing(self.name, done, len(todo))
            if stop.is_set():
                break
            if not done or file != todo[done - 1][0]:
                saved = load_checkpoint(file)
            rows = slice(replica * self.setup.num_agents, (replica + 1) * self.setup.num_agents)
            missing = known[file].missing(config, replica)
            found = self.team.analyze(partial(measure_some, analysis, tuple(missing)), take_rows(saved, rows), replica)
            known[file].record(self.folder, found, config, missing, replica)
        return state

    def _begin(self, saved: dict[str, Any] | None) -> int:
        """Restore a checkpoint, or write what is known before the first step and measure the start."""
        step, looked = 0, saved is not None and saved.get("looked", True)
        if saved:
            self.team.load(saved)
            step, self.diverged = saved["step"], dict(saved["diverged"])
        self.folder.begin()
        files = self._files_until(saved)
        # Nothing may vouch for what is cut off.
        self.folder.forget_analysis()
        self._status(step, "running", files)
        for name, file in self._files().items():
            file.cut(files[name])
        # Who had escaped is known from evaluations alone, so that a resumed run ends at the step of an unbroken one.
        self.escaped = {row["replica"] for row in read_lines(self.folder.metrics.path) if _ESCAPE in row}
        self._tell(step)
        if not saved:
            _tables(self.setup, self.folder)
        if not looked:
            self._look(step)
        return step

    def _files(self) -> dict[str, GrowingFile]:
        """Name the files that grow with the run."""
        return {METRICS: self.folder.metrics} | ({FILE: self.trajectory} if self.trajectory is not None else {})

    def _files_until(self, saved: dict[str, Any] | None) -> dict[str, Vouched]:
        """Find the part of each that belongs to a checkpoint."""
        if saved is None:
            return dict.fromkeys(self._files(), NOTHING)
        if "files" in saved:
            found: dict[str, Vouched] = saved["files"]
            return found
        # An earlier version wrote it: what is later stands behind.
        rows = [row for row in read_lines(self.folder.metrics.path) if row["step"] <= saved["step"]]
        self.folder.write(self.folder.metrics.path, lines_of(rows))
        files = {METRICS: self.folder.metrics.vouch()}
        return files | ({FILE: self.trajectory.until(saved["step"])} if self.trajectory is not None else {})

    def _measure(self, step: int) -> None:
        rows, diverged = self.team.measure()
        for replica, at in diverged.items():
            self.diverged.setdefault(replica, at)
        rows = [_finite(row) for row in rows if row["replica"] not in self.diverged]
        self.escaped |= {row["replica"] for row in rows if _ESCAPE in row}
        self.folder.metrics.append(lines_of(rows))
        if self.trajectory is not None:
            self.trajectory.add(*self.team.points())
        self.monitor.advanced(self.name, step, rows)

    def _checkpoint(self, *, looked: bool = True) -> None:
        begun = time.monotonic()
        content = self._state(looked=looked)
        if self.folder.checkpoint.exists():  # if the new one is damaged, the run goes on from the one before
            os.replace(self.folder.checkpoint, self.folder.before)
        self.folder.write(self.folder.checkpoint, content)
        self.saved_at = time.monotonic()
        self.pause = max(_CHECKPOINT_SECONDS, (self.saved_at - begun) / _CHECKPOINT_SHARE)

    def _state(self, *, looked: bool = True) -> memoryview:
        """Take down the state, and whether what is due at its step has been done."""
        vouched = {name: file.vouch() for name, file in self._files().items()}
        own = {"diverged": self.diverged, "run": self.folder.identity, "files": vouched, "looked": looked}
        return checkpoint_bytes({**self.team.state(), **own})

    def _status(self, step: int, state: str, files: Mapping[str, Vouched] | None = None) -> str:
        status = {
            "state": state,
            "step": step,
            "steps": self.setup.num_steps,
            "replicas": self.setup.config.replicas,
            "agents": self.setup.num_agents,
            "diverged": {str(replica): at for replica, at in sorted(self.diverged.items())},
            "engine": self.engine,
            "loss": self.loss,
            "run": self.folder.identity,
            "files": {name: file.vouch() for name, file in self._files().items()} if files is None else files,
        }
        self.folder.write_status(**status)
        self.told_at = time.monotonic()
        return state


def _tables(setup: Setup, folder: RunFolder) -> None:
    """Write down the graph's weights, who holds what and who attacks."""
    if setup.attackers.any():
        folder.write_table("attackers.csv", ("replica", "agent"), np.argwhere(setup.attackers).tolist())
    entries = setup.weights.tocoo()
    folder.write_table(
        "topology.csv",
        ("receiver", "sender", "weight"),
        (
            (int(k), int(sender), float(weight))
            for k, sender, weight in zip(entries.row, entries.col, entries.data, strict=True)
        ),
    )
    if setup.holdings:
        folder.write_table("partition.csv", ("replica", "agent", "label", "samples"), _partition_rows(setup))


def _partition_rows(setup: Setup) -> Iterator[tuple[int, int, int, int]]:
    labels = setup.task.labels
    for replica, held in enumerate(setup.holdings):
        for agent, indices in enumerate(held):
            values = torch.zeros(len(indices), dtype=torch.int64) if labels is None else labels[indices]
            found, counts = np.unique(values.numpy(), return_counts=True)
            for label, count in zip(found.tolist(), counts.tolist(), strict=True):
                yield replica, agent, label, count


def _finite(row: Row) -> Row:
    """Leave out what JSON cannot hold: a test loss may overflow where the training loss does not."""
    return {name: value for name, value in row.items() if math.isfinite(value)}
