"""A run in progress: it takes its steps, and is measured, recorded and analysed."""

import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from basinet.sim.agents.state import take_rows
from basinet.sim.agents.worker import measure_some
from basinet.sim.clock.laws import Measured
from basinet.sim.data.rows import length
from basinet.sim.evaluation.measuring import quantities_of
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import user_code
from basinet.sim.models.freezing import frozen_parameters
from basinet.sim.run.analyzed import Analyzed, analysis_settings
from basinet.sim.run.checkpoints.background import WRITING_SHARE, CheckpointWriter
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint, load_frozen
from basinet.sim.run.checkpoints.tensor_files import TensorFile
from basinet.sim.run.early_stopping import EarlyStop
from basinet.sim.run.execution.usage_record import UsageRecord
from basinet.sim.run.files import NOTHING, GrowingFile, Vouched
from basinet.sim.run.folder import RunFolder
from basinet.sim.run.interruptions import WorkStopped, watching
from basinet.sim.run.records import FINISHED, METRICS, PARTITION_COLUMNS, Row, lines_of, read_lines
from basinet.sim.run.trajectory import FILE, TrajectoryWriter
from basinet.sim.runtimes.team import Analysis, Stopped, Team
from basinet.sim.setup.room import state_bytes
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks.kept import identities

__all__ = ["USUAL", "Monitor", "Progress", "Rhythm", "write_tables"]

_BYTES_A_SECOND = 1e8
"""Assumed speed of writing the first checkpoint, before any has been timed."""

_SLICES_TOLD = 4
"""Slices between two records of a run's status, which wait for the disk and for every worker."""

_ESCAPE = "escape_step"


@dataclass(frozen=True)
class Rhythm:
    """Intervals, in seconds, at which a run is attended to.

    Attributes:
        slice: Work between two looks at the clock: how often progress is shown and interruptions are noticed.
        checkpoint: Time between two checkpoints, or more if writing takes long; another is written at the end.
        first_checkpoint: Time until the first checkpoint, or more if the state is large.
    """

    slice: float = 0.5
    checkpoint: float = 15.0
    first_checkpoint: float = 2.0


USUAL = Rhythm()


class Monitor(Protocol):
    """Receives the progress of the runs; called from several threads."""

    def started(self, run: str, step: int, num_steps: int, agents: int, engine: str) -> None:
        """Called when a run begins, or resumes at a step."""

    def advanced(self, run: str, step: int, rows: list[Row]) -> str | None:
        """Called when a run has reached a step; `rows` holds the measurements taken, if any.

        Returns why the run is to stop there, or None.
        """

    def waiting(self, run: str, what: str) -> None:
        """Called when a run cannot begin yet, with what it waits for."""

    def restarted(self, run: str, why: str) -> None:
        """Called when a run is taken up again from its last checkpoint, with why: a worker has died."""

    def analyzing(self, run: str, done: int, total: int, what: str) -> None:
        """Called after the last step, with the number of replicas analysed so far.

        Before each replica, `what` is empty; while measures are taken in this process, it is called often with their
        names.
        """

    def finished(self, run: str, state: str) -> None:
        """Called with a run's final state: done (possibly by copying), diverged, interrupted, or "failed: " and why."""


class Progress:
    """One run in progress: its current state, and what is written about it.

    Args:
        name: Name of the run.
        setup: The parts of the run.
        folder: Its folder.
        team: Its workers.
        monitor: Receives its progress.
        rhythm: Intervals at which it is attended to.

    Attributes:
        step: The last step that it has reached.
    """

    def __init__(
        self, name: str, setup: Setup, folder: RunFolder, team: Team, monitor: Monitor, rhythm: Rhythm = USUAL
    ) -> None:
        self.name = name
        self.setup = setup
        self.folder = folder
        self.team = team
        self.monitor = monitor
        self.rhythm = rhythm
        self.step = 0
        self.usage = UsageRecord(folder.path)
        self.diverged: dict[int, int] = {}
        self.escaped: set[int] = set()
        self.asked_to_stop: str | None = None
        asked = setup.config.stop_early
        self.early_stop = None if asked is None else EarlyStop(asked, setup.direction(asked.metric))
        records = setup.config.trajectory is not None
        self.trajectory = TrajectoryWriter(folder.path, setup.evaluate_every, setup.num_steps) if records else None
        self.engine = team.engine_choice()
        self.about: dict[str, Any] = {"loss": setup.task.about_loss}
        if not setup.model_component.is_ready:
            self.about["model"] = {"name": setup.task.model, "arguments": setup.task.model_arguments}
        self.about |= {"start": setup.about_start} if setup.about_start else {}
        self.about |= {"kept": identities(setup.task.kept)} if setup.task.kept else {}
        if isinstance(setup.compute, Measured):
            self.about["pass_seconds"] = setup.compute.seconds
        self.about["quantities"] = {metric: asdict(known) for metric, known in quantities_of(setup.task).items()}
        with user_code(setup.config.task.component):
            self.about["baselines"] = {name: _finite(row) for name, row in setup.task.baselines().items()}
        self.told_at = time.monotonic()
        expected = max(rhythm.first_checkpoint, state_bytes(setup) / _BYTES_A_SECOND / WRITING_SHARE)
        self.checkpoints = CheckpointWriter(folder, rhythm.checkpoint, min(rhythm.checkpoint, expected))

    def restore(self, saved: dict[str, Any], state: str) -> str:
        """Restore the last state of a run that has taken all of its steps.

        Args:
            saved: Its last checkpoint.
            state: The state in which it ended.

        Returns:
            The same state.
        """
        self.team.load(saved)
        self.diverged = dict(saved["diverged"])
        self._notify_started(saved["step"])
        return state

    def _notify_started(self, step: int) -> None:
        agents = self.setup.config.replicas * self.setup.num_agents
        self.monitor.started(self.name, step, self.setup.num_steps, agents, self.engine)

    def go(self, saved: dict[str, Any] | None, stop: threading.Event, until: int | None = None) -> str:
        """Advance to the end, from a checkpoint if there is one.

        Args:
            saved: The checkpoint.
            stop: Set to stop after the next step, or within an evaluation, with a checkpoint.
            until: Step at which to pause, with a checkpoint; None for the last one.

        Returns:
            The state in which the run ends, or "paused".
        """
        with self.checkpoints, watching(stop):
            try:
                return self._advance(self._begin(saved), stop, until)
            except WorkStopped:
                self._save(looked=False)
                return self._status(self.step, "interrupted")

    def _advance(self, step: int, stop: threading.Event, until: int | None) -> str:
        setup, pace = self.setup, 1
        keep, end = setup.config.keep_every, setup.num_steps if until is None else min(until, setup.num_steps)
        periods = [setup.evaluate_every, *([keep] if keep else [])]
        while step < end and not self._is_over():
            if stop.is_set():
                self._save()
                return self._status(step, "interrupted")
            target = min(end, *((step // every + 1) * every for every in periods))
            taken = min(target - step, pace)
            start = time.monotonic()
            self.team.advance(step + taken)
            step = self.step = step + taken
            if stop.is_set():  # on an interruption there may be no time for an evaluation
                raise WorkStopped
            # Slices of about the same duration, whatever the cost of a step.
            pace = max(1, min(2 * pace, round(taken * self.rhythm.slice / max(time.monotonic() - start, 1e-6))))
            self._look(step)
            if step < setup.num_steps and self.checkpoints.is_due():
                self.checkpoints.replace(self._state)
            if time.monotonic() - self.told_at >= _SLICES_TOLD * self.rhythm.slice:
                self._status(step, "running")
        self._save()
        if step < setup.num_steps and not self._is_over():
            return self._status(step, "paused")
        self.folder.forget_before()
        return self._status(step, "diverged" if self.diverged else "done")

    def _look(self, step: int) -> None:
        """Do what is due at a step: evaluate, and keep a checkpoint."""
        last, keep = step == self.setup.num_steps, self.setup.config.keep_every
        if step % self.setup.evaluate_every == 0 or last:
            before = self.best_step
            self._measure(step)
            if before is not None and before != self.best_step and not (keep and before % keep == 0):
                self.checkpoints.drop(before)
            if step == self.best_step and not last:
                self.checkpoints.keep(step, self._state)
        else:
            self.monitor.advanced(self.name, step, [])
        if keep and step % keep == 0 and not last:
            self.checkpoints.keep(step, self._state)

    def _is_over(self) -> bool:
        """Return whether no replica remains for which the run would have to continue."""
        escape = self.setup.config.escape
        ended = self.diverged.keys() | self.escaped if escape is not None and escape.stop else self.diverged
        return len(ended) == self.setup.config.replicas or self._stalls() is not None

    @property
    def best_step(self) -> int | None:
        """Step of the best evaluation so far, if its state is to be kept."""
        asked = self.setup.config.stop_early
        return self.early_stop.best_step if self.early_stop is not None and asked and asked.keep_best else None

    def _stalls(self) -> str | None:
        """Return why the run stops early, or None."""
        return self.asked_to_stop or (None if self.early_stop is None else self.early_stop.reason)

    def analyze(self, analysis: Analysis, stop: threading.Event) -> bool:
        """Let the workers analyse the kept checkpoints, and write the results.

        Args:
            analysis: The analysis.
            stop: Set to stop, with the measures that are finished.

        Returns:
            Whether it was not stopped.
        """
        config = self.setup.config
        if not config.analysis:
            return True
        replicas = [replica for replica in range(config.replicas) if replica not in self.diverged]
        settings = analysis_settings(self.setup)
        known = {file: Analyzed(file, settings) for file in self.folder.checkpoints()}
        todo = [(file, r) for file in known for r in replicas if known[file].missing(config, r)]
        saved: dict[str, Any] = {}
        for done, (file, replica) in enumerate(todo):
            self.monitor.analyzing(self.name, done, len(todo), "")
            if stop.is_set():
                return False
            if not done or file != todo[done - 1][0]:
                saved = load_checkpoint(file)
            rows = slice(replica * self.setup.num_agents, (replica + 1) * self.setup.num_agents)
            missing = known[file].missing(config, replica)
            some = partial(measure_some, analysis, tuple(missing))
            try:
                with watching(stop, partial(self.monitor.analyzing, self.name, done, len(todo))):
                    found = self.team.analyze(some, take_rows(saved, rows), replica)
            except Stopped:
                return False
            unfinished = {row["unfinished"] for row in found if "unfinished" in row}
            if finished := [measure for measure in missing if measure not in unfinished]:
                found = [row for row in found if "unfinished" not in row]
                known[file].record(self.folder, found, config, finished, replica)
            if unfinished:
                return False
        return True

    def _begin(self, saved: dict[str, Any] | None) -> int:
        """Restore a checkpoint, or write what is known before the first step and evaluate the start."""
        step, looked = 0, saved is not None and saved.get("looked", True)
        if saved:
            self.team.load(saved)
            step = self.step = saved["step"]
            self.diverged = dict(saved["diverged"])
        self.folder.begin()
        self._keep_frozen()
        files = self._files_until(saved)
        # No record may refer to what is cut off.
        self.folder.forget_analysis()
        self._status(step, "running", files)
        for name, file in self._files().items():
            file.cut(files[name])
        # Escapes are only known from evaluations, so that a resumed run ends at the same step as an uninterrupted one.
        rows = read_lines(self.folder.metrics.path)
        self.escaped = {row["replica"] for row in rows if _ESCAPE in row}
        if self.early_stop is not None:
            self.early_stop.restart(rows)
        self._notify_started(step)
        if not saved:
            write_tables(self.setup, self.folder)
        if not looked:
            self._look(step)
        return step

    def _keep_frozen(self) -> None:
        """Write the frozen parameters, which no checkpoint holds, unless they are there."""
        values = frozen_parameters(self.setup.template())
        if values and load_frozen(self.folder.frozen, digest(values)) is None:
            self.folder.write_checkpoint(self.folder.frozen, TensorFile(values))

    def _files(self) -> dict[str, GrowingFile]:
        """Return the files that grow during the run, by name."""
        return {METRICS: self.folder.metrics} | ({FILE: self.trajectory} if self.trajectory is not None else {})

    def _files_until(self, saved: dict[str, Any] | None) -> dict[str, Vouched]:
        """Return the recorded length and checksum of each file at a checkpoint."""
        if saved is None:
            return dict.fromkeys(self._files(), NOTHING)
        if "files" in saved:
            found: dict[str, Vouched] = saved["files"]
            return found
        # Written by an earlier version: later rows come after the checkpoint's.
        rows = [row for row in read_lines(self.folder.metrics.path) if row["step"] <= saved["step"]]
        self.folder.write(self.folder.metrics.path, lines_of(rows))
        files = {METRICS: self.folder.metrics.vouch()}
        return files | ({FILE: self.trajectory.until(saved["step"])} if self.trajectory is not None else {})

    def _measure(self, step: int) -> None:
        rows, diverged = self.team.measure()
        for replica, at in diverged.items():
            self.diverged.setdefault(replica, at)
        rows = [_finite(row) for row in rows if row["replica"] not in self.diverged]
        agents = [row for row in rows if "agent" in row]
        rows = [row for row in rows if "agent" not in row]
        self.escaped |= {row["replica"] for row in rows if _ESCAPE in row}
        if self.early_stop is not None:
            self.early_stop.add(rows)
        self.folder.metrics.append(lines_of([*rows, *agents]))
        if self.trajectory is not None:
            self.trajectory.add(*self.team.points())
        self.asked_to_stop = self.monitor.advanced(self.name, step, rows)

    def _save(self, *, looked: bool = True) -> None:
        """Write the state at which the run ends or pauses."""
        self.checkpoints.replace(partial(self._state, looked=looked))
        self.checkpoints.wait()

    def _state(self, *, looked: bool = True) -> dict[str, Any]:
        """Collect the state, and whether what is due at its step has been done."""
        vouched = {name: file.vouch() for name, file in self._files().items()}
        own = {"diverged": self.diverged, "run": self.folder.identity, "files": vouched, "looked": looked}
        return {**self.team.state(), **own}

    def _status(self, step: int, state: str, files: Mapping[str, Vouched] | None = None) -> str:
        early = state in FINISHED and step < self.setup.num_steps
        stopped = self._stalls() if early else None
        status = {
            "state": state,
            "step": step,
            "steps": self.setup.num_steps,
            "replicas": self.setup.config.replicas,
            "agents": self.setup.num_agents,
            "diverged": {str(replica): at for replica, at in sorted(self.diverged.items())},
            "engine": self.engine,
            **self.about,
            **({} if stopped is None else {"stopped": stopped}),
            **({} if self.best_step is None else {"best_step": self.best_step}),
            "run": self.folder.identity,
            "files": {name: file.vouch() for name, file in self._files().items()} if files is None else files,
        }
        self.usage.write(step, self.team.usage())
        self.team.collect_logs()
        self.folder.write_status(**status)  # the last that is written: no partial file is left of a finished run
        self.told_at = time.monotonic()
        return state


def write_tables(setup: Setup, folder: RunFolder) -> None:
    """Write the weights of the graph, the partition of the data, the attackers, and what is kept of the data.

    Args:
        setup: The parts of a run.
        folder: Its folder.
    """
    for name, kept in setup.task.kept.items():
        if kept.content is not None:
            folder.write(folder.kept_of_task(name), kept.content)
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
        column = setup.config.task.partition.settings.get("column")
        known = setup.task.columns.get(column) if isinstance(column, str) else None
        extra = () if known is None else (f"column {column}" if column in PARTITION_COLUMNS else column,)
        folder.write_table("partition.csv", (*PARTITION_COLUMNS, *extra), _partition_rows(setup, known))


def _partition_rows(setup: Setup, column: np.ndarray | None) -> Iterator[tuple[Any, ...]]:
    """List the samples of each agent by label and, if they were dealt out by a column, by its values."""
    labels = np.zeros(length(setup.task.train), np.int64) if setup.task.labels is None else setup.task.labels.numpy()
    values, group = (None, 0 * labels) if column is None else np.unique(column, return_inverse=True)
    for replica, held in enumerate(setup.holdings):
        for agent, indices in enumerate(held):
            pairs, counts = np.unique(np.stack([labels[indices], group[indices]]), axis=1, return_counts=True)
            for label, place, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
                yield replica, agent, label, count, *(() if values is None else (values[place],))


def _finite(row: Row) -> Row:
    """Leave out non-finite values, which JSON cannot hold: a test loss may overflow when the training loss does not."""
    return {name: value for name, value in row.items() if math.isfinite(value)}
