"""The Python interface: run an experiment, look at the results."""

import inspect
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basinet.analysis.measure import check_analysis, measure_replica
from basinet.analysis.report import write_report
from basinet.analysis.studies import STUDIES, TRAININGS, Findings, check_folder, write_findings
from basinet.analysis.summary import summarize
from basinet.launch.progress import TerminalMonitor, bar
from basinet.sim.component import ExperimentError, Kind, nearest
from basinet.sim.experiment import Experiment, override
from basinet.sim.folder import Run, load_runs
from basinet.sim.runtimes.torchrun import together
from basinet.sim.simulation import prepare, simulate

__all__ = ["Results", "compare", "reproduce", "run"]


@dataclass(frozen=True)
class Results:
    """What an experiment has left on disk.

    Attributes:
        folder: The experiment's folder.
        report: Its report.
        states: How each run ended: done, diverged or failed.
    """

    folder: Path
    report: Path
    states: dict[str, str]

    @property
    def runs(self) -> list[Run]:
        """The runs, as read from disk."""
        return load_runs(self.folder)

    def summary(self) -> list[dict[str, Any]]:
        """Summarise the runs over their replicas.

        Returns:
            A row a run: see `basinet.analysis.summary.summarize`.
        """
        return summarize(self.runs)


def run(
    experiment: Experiment | None = None,
    /,
    *,
    out: str | Path = "runs/experiment",
    fresh: bool = False,
    quiet: bool = False,
    **description: Any,
) -> Results:
    """Run an experiment, analyse its runs and write the report.

    The same experiment into the same folder goes on where it stopped and skips what is finished. Ctrl-C stops at
    the next occasion, with everything reached on disk.

    With the runtime "torchrun" every rank calls this, in a script that torchrun has started. The first rank carries the
    experiment out with the help of the others and writes its files; all of them return, or raise, the same at the end.

    Args:
        experiment: An experiment; or give its keys as keywords.
        out: The experiment's folder.
        fresh: Whether to discard what the folder holds.
        quiet: Whether to show no progress.
        **description: Keys of an experiment, see `basinet.sim.config.Config`.

    Returns:
        What was written.

    Raises:
        ExperimentError: Something in the experiment is not allowed; nothing was written.
        Interrupted: It was stopped before its end.
    """
    experiment = experiment or Experiment(description)
    if any(config.runtime.name == "torchrun" for config in experiment.runs.values()):
        return together(lambda: _run(experiment, Path(out), fresh=fresh, quiet=quiet))
    return _run(experiment, Path(out), fresh=fresh, quiet=quiet)


def _run(experiment: Experiment, out: Path, *, fresh: bool, quiet: bool) -> Results:
    setups = prepare(experiment, out, fresh=fresh, check=check_analysis)
    with TerminalMonitor(len(setups), quiet=quiet) as monitor, _interruptible(monitor) as stop:
        monitor.console.print(f"{len(setups)} {'run' if len(setups) == 1 else 'runs'} into {out}", highlight=False)
        for loss in dict.fromkeys(setup.task.about_loss for setup in setups.values()):
            monitor.console.print(f"loss: {loss}", highlight=False, markup=False, soft_wrap=True)
        states = simulate(setups, out, monitor, stop, measure_replica)
    return Results(folder=out, report=write_report(out), states=states)


def compare(*folders: str | Path) -> list[dict[str, Any]]:
    """Summarise the runs of several experiments side by side.

    Args:
        *folders: Folders that `run` wrote, or folders of single runs.

    Returns:
        A row a run: see `basinet.analysis.summary.summarize`.
    """
    return summarize([run for folder in folders for run in load_runs(folder)])


def reproduce(
    name: str, words: Sequence[str] = (), *, out: str | Path, fresh: bool = False, quiet: bool = False
) -> tuple[Findings, Path]:
    """Run a study and write what it finds.

    The findings are written at the end. Trainings that a study resumes lie beside them as experiments of their own;
    those that are finished are not done again.

    Args:
        name: A name in `basinet.analysis.studies.STUDIES`.
        words: Settings of the study, `key=value`.
        out: Where the findings go: a new folder, or one that holds a study, which is written over.
        fresh: Whether to discard the trainings that the folder holds.
        quiet: Whether to show no progress.

    Returns:
        The findings, and the report.

    Raises:
        ExperimentError: There is no such study or setting, or the folder holds something else.
    """
    if name not in STUDIES:
        raise ExperimentError(f"reproduce: there is no study '{name}'; {nearest(name, STUDIES)}")
    settings: dict[str, Any] = {}
    override(settings, words)
    study = Kind(name, STUDIES, ("progress", "folder")).parse({**settings, "name": name})
    out = Path(out)
    check_folder(out)
    if fresh:
        shutil.rmtree(out / TRAININGS, ignore_errors=True)
    supplied = {"folder": out} if "folder" in inspect.signature(study.target).parameters else {}
    begun = time.monotonic()
    with bar(name, quiet=quiet) as progress:
        # Not by its `make`, which takes a ValueError for a mistake in the settings.
        findings: Findings = study.target(**supplied, progress=progress, **study.settings)
    command = shlex.join(["basinet", "reproduce", name, *words])
    return findings, write_findings(findings, out, command=command, seconds=time.monotonic() - begun)


@contextmanager
def _interruptible(monitor: TerminalMonitor) -> Iterator[threading.Event]:
    """Turn Ctrl-C or SIGTERM into a wish to stop; a second Ctrl-C interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_interrupt(number: int, _: Any) -> None:
        if stop.is_set():
            # SIGTERM may come twice: from a scheduler to all processes, and from the one that has started them.
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        stop.set()
        monitor.console.print("stopping at the next checkpoint; press Ctrl-C again to stop at once")

    # A cluster that takes a machine back sends SIGTERM.
    before = {number: signal.signal(number, on_interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
