"""The execution of one run: skipped if finished, resumed if begun, taken up again if a worker dies."""

import logging
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from basinet.sim.clock.laws import Measured
from basinet.sim.engines import ENGINES, EngineName
from basinet.sim.experiment.mistakes import ExperimentError, first_line
from basinet.sim.run.analyzed import analysis_settings
from basinet.sim.run.execution.twins import take_over
from basinet.sim.run.files import Damaged
from basinet.sim.run.folder import RunFolder
from basinet.sim.run.monitor import USUAL, Monitor, Progress, Rhythm, write_tables
from basinet.sim.run.records import ANALYZED, FINISHED, load_status
from basinet.sim.run.resume import is_analyzed, kept_steps, latest, lost_step, sound_status
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.runtimes.team import Analysis, RankLostError, Stopped, Team, WorkerLost
from basinet.sim.setup.setup import Setup

__all__ = ["RETRIES", "Circumstances", "execute"]

_log = logging.getLogger(__name__)

RETRIES = 3
"""How often in a row a run is taken up again that has got no further, by a checkpoint or a measure, since a worker
died."""


@dataclass(frozen=True)
class Circumstances:
    """What all runs of an experiment have in common.

    Attributes:
        monitor: Receives the progress of the runs.
        stop: Set to stop at the next opportunity; every run then writes a checkpoint.
        analysis: What the workers do with the last state of a run.
        rhythm: Intervals at which a run is attended to.
    """

    monitor: Monitor
    stop: threading.Event
    analysis: Analysis | None = None
    rhythm: Rhythm = USUAL


def execute(
    name: str,
    setup: Setup,
    folder: RunFolder,
    given: Circumstances,
    source: RunFolder | None = None,
    until: int | None = None,
) -> str:
    """Execute one run; a failure is recorded in its folder and does not affect the others.

    Args:
        name: Its name.
        setup: Its parts.
        folder: Its folder.
        given: What it has in common with the other runs.
        source: The folder of a finished run with the same steps, whose results it then copies.
        until: Step at which it pauses, unless it is there already; None for its end.

    Returns:
        The state in which it ended: done, diverged, interrupted, paused or failed.
    """
    run = _Execution(name, setup, folder, given, until)
    try:
        try:
            state, note = run.to_the_end(source)
        except Stopped:
            state, note = run.stopped(), ""
    except (Exception, SystemExit) as error:  # user code must not end the process
        given.monitor.finished(name, f"failed: {run.failed(error)}")
        return "failed"
    at = ""
    if not run.is_known:
        status = load_status(folder.path)
        if state in ("interrupted", "paused") or "stopped" in status:
            at = f" at step {status['step']} of {setup.num_steps}"
    given.monitor.finished(name, state + at + note)
    return state


class _Execution:
    """The attempts to execute one run.

    Args:
        name: Its name.
        setup: Its parts.
        folder: Its folder.
        given: What it has in common with the other runs.
        until: Step at which it pauses; None for its end.
    """

    def __init__(self, name: str, setup: Setup, folder: RunFolder, given: Circumstances, until: int | None) -> None:
        self.name = name
        self.setup = setup
        self.folder = folder
        self.given = given
        self.until = until
        self.status: dict[str, Any] = {}
        self.is_known = False
        self.progress: Progress | None = None

    def to_the_end(self, source: RunFolder | None) -> tuple[str, str]:
        """Execute the run; if a worker dies, go on from the last checkpoint with other workers.

        Returns:
            The state in which it ended, and what else there is to say.

        Raises:
            Stopped: It was asked to stop, before its workers had started or while they ended.
            WorkerLost: Workers have died time and again.
        """
        in_vain = 0
        while True:
            reached = self._reached()
            try:
                return self._attempt(source)
            except WorkerLost as lost:
                if self.given.stop.is_set():
                    raise Stopped from lost
                in_vain = in_vain + 1 if self._reached() == reached else 1
                if in_vain > RETRIES:
                    raise WorkerLost(
                        f"{lost}; given up after {RETRIES} retries without progress: if memory ran out, give each"
                        " worker more of its machine (runtime.cpus_per_actor), or choose a smaller batch_size or model"
                    ) from lost
                self._record(lost)

    def _reached(self) -> list[int]:
        """Tell by its files how far the run has got."""
        files = [self.folder.checkpoint, self.folder.path / ANALYZED]
        return [file.stat().st_mtime_ns if file.exists() else 0 for file in files]

    def _record(self, lost: WorkerLost) -> None:
        """Record that a worker was lost, and say so."""
        status = self._status()
        known = [*status.get("lost_workers", []), {"step": status["step"], "reason": str(lost)}]
        self.folder.write_status(**status | {"lost_workers": known})
        self.given.monitor.restarted(self.name, str(lost))

    def _status(self) -> dict[str, Any]:
        """Return the recorded status with the last step that the run has reached, which no checkpoint need hold."""
        try:
            status = load_status(self.folder.path)
        except Damaged:
            status = {"state": "running", "step": 0}
        return status | {"step": max(status["step"], self.progress.step if self.progress is not None else 0)}

    def _attempt(self, source: RunFolder | None) -> tuple[str, str]:
        """Execute the run as long as its workers live."""
        folder, setup, given = self.folder, self.setup, self.given
        note, lost = "", None
        status = self.status = sound_status(folder)
        begun = folder.checkpoint.exists() and "takes_over" not in status
        if source is not None and status["state"] not in FINISHED and not begun:
            write_tables(setup, folder)
            take_over(source.path, folder, setup.config)
            status = self.status = load_status(folder.path)
            note = f", as {source.path.name}"
        reached = str(status["state"])
        if reached in FINISHED:
            if given.analysis is None or is_analyzed(setup, folder, status):
                self.is_known = True
                return reached, note
            lost = lost_step(folder, kept_steps(setup, status), analysis_settings(setup))
        saved = latest(folder, lost)
        evaluated = saved is not None and saved.get("looked", True)  # otherwise it was stopped before that
        if self.until is not None and saved and evaluated and reached not in FINISHED and saved["step"] >= self.until:
            self.is_known = True
            return "paused", ""
        is_reached = saved is not None and reached in FINISHED and saved["step"] == status["step"]
        before = str(status.get("engine", ""))
        if isinstance(law := setup.compute, Measured):  # which is not measured again, maybe on another machine
            seconds = status.get("pass_seconds", law.seconds)
            setup = self.setup = replace(setup, compute=replace(law, seconds=seconds))
        with self._team(saved, before) as team:
            team.log_to(folder.path / "logs")
            progress = self.progress = Progress(self.name, setup, folder, team, given.monitor, given.rhythm)
            if progress.engine.partition(" ")[0] == before.partition(" ")[0]:
                progress.engine = before  # with the original reason for its choice
            if "lost_workers" in status:
                progress.about["lost_workers"] = status["lost_workers"]
            state = (
                progress.restore(saved, reached) if saved and is_reached else progress.go(saved, given.stop, self.until)
            )
            if state in FINISHED and given.analysis is not None and not progress.analyze(given.analysis, given.stop):
                note += ", its analysis interrupted"
        return state, note

    def _team(self, saved: Mapping[str, Any] | None, before: str) -> Team:
        """Start the workers with the engine that the run began with, since another one rounds differently.

        If that engine fails, a run without a checkpoint chooses again: none of its numbers are kept.

        Returns:
            The workers.

        Raises:
            Stopped: The run was stopped before they had started.
            WorkerLost: One died before.
        """
        asked = self.setup.config.runtime.engine
        if saved:
            return self._with(saved["engine"])
        begun = before.partition(" ")[0]
        if asked == "auto" and begun in ENGINES:
            try:
                return self._with(cast(EngineName, begun))
            except (Stopped, WorkerLost):
                raise
            except Exception as error:  # such as on another device, or with another version of torch
                _log.warning("%s: the engine %s fails and is chosen again: %s", self.name, begun, first_line(error))
        return self._with(asked)

    def _with(self, engine: EngineName) -> Team:
        def waiting(what: str) -> None:
            self.given.monitor.waiting(self.name, what)

        return runtime_of(self.setup.config.runtime).team(self.setup, engine, self.given.stop, waiting)

    def stopped(self) -> str:
        """Record that the run was stopped before its workers had started, or while they analysed it.

        Returns:
            The state in which it is.
        """
        with suppress(Damaged):  # the workers may have got further since the attempt began
            self.status = load_status(self.folder.path)
        if (state := str(self.status["state"])) in FINISHED:
            return state
        self.folder.write_status(**self.status | {"state": "interrupted"})
        return "interrupted"

    def failed(self, error: BaseException) -> str:
        """Record a failure.

        Returns:
            Its reason.
        """
        reason = first_line(error)
        failure = {"state": "failed", "error": reason, "traceback": traceback.format_exc()}
        again = {"goes_on": True} if isinstance(error, RankLostError) else {}  # by the same command
        try:
            self.folder.write_status(**self._status() | failure | again)
        except ExperimentError as gone:  # the folder was removed
            reason = first_line(gone)
        except OSError as unwritten:  # if the disk is full, this may fail, too
            reason += f"; its status could not be written either: {first_line(unwritten)}"
        return reason
