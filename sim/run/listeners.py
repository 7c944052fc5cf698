"""What listens to runs in progress besides the terminal: loggers, and a function that may stop a run.

RUN/logged.json      an identifier of the run, and the number of lines of its metrics that each logger has received: a
                     resumed run takes steps again that were logged before
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.digest import name_of
from basinet.sim.experiment.mistakes import complaint, in_words, shown
from basinet.sim.loggers.logger import Logger, missing_package
from basinet.sim.run.early_stopping import mean_metrics
from basinet.sim.run.files import Damaged, plain_file, read_json, sealed_json
from basinet.sim.run.folder import RunFolder
from basinet.sim.run.monitor import Monitor
from basinet.sim.run.records import FINISHED, METRICS, Row, load_config, parse_lines

__all__ = ["LOGGED", "Feeds", "Listeners", "OnEvaluate", "check_loggers", "close_ready", "readings"]

_log = logging.getLogger(__name__)

LOGGED = "logged.json"

_PATIENCE = 10.0

OnEvaluate = Callable[[str, int, dict[int, dict[str, float]]], Any]
"""A function of a run's name, the step, and the metrics of each replica by name."""


def check_loggers(loggers: Sequence[Component]) -> None:
    """Check that the packages of loggers are installed.

    Args:
        loggers: The loggers.

    Raises:
        ExperimentError: One is not.
    """
    for logger in loggers:
        package = missing_package(logger.target)
        if package is not None:
            raise ExperimentError(
                f'loggers: {logger.name} needs the package {package}: pip install "basinet[{package}]"'
            )


def readings(rows: Sequence[Row]) -> Iterator[tuple[int, int, dict[str, float]]]:
    """Collect what loggers receive, step by step.

    Args:
        rows: Measurements of one run in the order taken.

    Yields:
        The number of rows so far, the step, and values by name: the mean over the replicas, and of several replicas
        also each value, as `NAME/replica_0`. Measurements of single agents are left out.
    """
    count = 0
    for step, group in groupby(rows, key=lambda row: int(row["step"])):
        replicas: dict[int, Row] = {}
        for row in group:
            count += 1
            if "agent" not in row:
                replicas.setdefault(row["replica"], {}).update(row)
        values = mean_metrics([*replicas.values()])
        if len(replicas) > 1:
            for replica, row in sorted(replicas.items()):
                own = {name: value for name, value in row.items() if name not in ("step", "replica")}
                values |= {f"{name}/replica_{replica}": value for name, value in own.items()}
        yield count, step, values


class _Journal:
    """The metrics of one run, and how much of them each logger has received.

    Args:
        path: Folder of the run.
        folder: Folder in which is recorded what loggers have received.
    """

    def __init__(self, path: Path, folder: RunFolder) -> None:
        self.path = path
        self.folder = folder
        self.offset = self.lines = 0
        self.opened: dict[str, Logger] = {}
        file = folder.path / LOGGED
        try:
            known = read_json(file) if file.exists() else {}
        except Damaged as error:
            _log.warning("%s", error)
            known = {}
        self.identity = str(known.get("identity", uuid.uuid4().hex[:12]))
        self.received: dict[str, int] = {name: int(count) for name, count in known.get("lines", {}).items()}
        self.recorded = dict(self.received)

    def new_rows(self) -> list[Row]:
        """Read the lines that were added since the last call; all lines of a file that was cut meanwhile."""
        path = self.path / METRICS
        if not plain_file(path).exists():
            return []
        with open(path, "rb") as file:
            if file.seek(0, 2) < self.offset:
                self.offset = self.lines = 0
            file.seek(self.offset)
            content = file.read()
        content = content[: content.rfind(b"\n") + 1]
        rows = parse_lines(content, path, self.lines + 1)
        self.offset += len(content)
        self.lines += len(rows)
        return rows

    def record(self, closed: bool = False) -> None:
        """Record how much each logger has received, and will not lose should the process die."""
        late = {name for name, logger in self.opened.items() if getattr(logger, "keeps_late", False) and not closed}
        kept = {name: count for name, count in self.received.items() if name not in late}
        if not kept.items() <= self.recorded.items():
            self.recorded |= kept
            content = sealed_json({"identity": self.identity, "lines": self.recorded})
            self.folder.write(self.folder.path / LOGGED, content)


class Feeds:
    """Lets loggers receive the metrics of runs, each line once.

    Lines that a resumed run writes again are skipped, and those that a logger has not received are made up for. A
    logger that fails receives nothing more.

    Args:
        loggers: The loggers; one that is ready-made receives the metrics of all runs, and is not closed.
        out: Folder in which the loggers have a folder for each run, and where is recorded what they have received.
        several: Whether there are several runs, whose names a ready-made logger receives before those of metrics.
        stage: Name of the stage whose runs these are, if there are several.

    Attributes:
        failed: Why loggers have failed, by name.
        patience: Seconds after which is said which logger its runs wait for.
    """

    patience = _PATIENCE

    def __init__(self, loggers: Sequence[Component], out: Path, *, several: bool = False, stage: str = "") -> None:
        self.out = out
        self.several = several or bool(stage)
        self.stage = stage
        names = [logger.name for logger in loggers]
        self.loggers = {
            name if not names[:place].count(name) else f"{name}-{names[:place].count(name) + 1}": logger
            for place, (name, logger) in enumerate(zip(names, loggers, strict=True))
        }
        self.failed: dict[str, str] = {}
        self.journals: dict[str, _Journal] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for run in [*self.journals]:
            self.close(run)

    def title(self, run: str) -> str:
        """Name a run among those of all stages.

        Args:
            run: Its name.

        Returns:
            The name, after that of its stage.
        """
        return f"{self.stage}/{run}" if self.stage else run

    def update(self, run: str, path: Path) -> None:
        """Let each logger receive what it has not received of a run.

        Args:
            run: Name of the run.
            path: Its folder.
        """
        if not self.loggers:
            return
        with self.lock:
            if run not in self.journals:
                self.journals[run] = _Journal(path, RunFolder(self.out / run))
            journal = self.journals[run]
            rows = journal.new_rows()
            first = journal.lines - len(rows)
            for name, logger in self.loggers.items():
                new = rows[max(0, journal.received.get(name, 0) - first) :]
                if new and name not in self.failed:
                    self._attempt(name, partial(self._feed, run, name, logger, new))
            journal.record()

    def close(self, run: str) -> None:
        """Close the loggers of a run.

        Args:
            run: Its name.
        """
        with self.lock:
            journal = self.journals.pop(run, None)
            if journal is None:
                return
            for name, logger in journal.opened.items():
                self._attempt(name, logger.close)
                if name in self.failed and getattr(logger, "keeps_late", False):
                    journal.received.pop(name, None)
            journal.record(closed=True)

    def _feed(self, run: str, name: str, logger: Component, rows: list[Row]) -> None:
        """Let a logger receive the last rows of a run."""
        journal = self.journals[run]
        seen, prefix = journal.lines - len(rows), f"{self.title(run)}/" if logger.is_ready and self.several else ""
        receiver: Logger = logger.target if logger.is_ready else self._opened(run, name, logger)
        for count, step, values in readings(rows):
            if values:
                receiver.log({f"{prefix}{key}": value for key, value in values.items()}, step)
            journal.received[name] = seen + count

    def _opened(self, run: str, name: str, logger: Component) -> Logger:
        """Return the logger of a run, made on first use."""
        journal = self.journals[run]
        if name not in journal.opened:
            config = load_config(journal.path)
            journal.opened[name] = logger.make(
                run=self.title(run), folder=journal.folder.path, identity=journal.identity, config=config
            )
        return journal.opened[name]

    def _attempt(self, name: str, work: Callable[[], None]) -> None:
        """Let a logger work; if it fails, say so once, and leave it alone from then on."""
        reason = _attempt(name, work, self.patience, say=name not in self.failed)
        if reason is not None:
            self.failed.setdefault(name, reason)


def _attempt(name: str, work: Callable[[], None], patience: float = _PATIENCE, *, say: bool = True) -> str | None:
    """Let a logger work, and say so if it takes long; if it fails, which must not end a run, warn and return why."""
    sentence = "loggers: %s has not returned for %g seconds, and its runs wait for it"
    slow = threading.Timer(patience, _log.warning, (sentence, name, patience))
    slow.daemon = True  # an interrupted process does not wait to say so
    slow.start()
    try:
        work()
    except (Exception, SystemExit) as error:
        if say:
            _log.warning(
                "loggers: %s fails and receives nothing more: %s; the metrics are in the run folders, and the same"
                " command goes on where it stopped",
                name,
                in_words(error),
            )
        return in_words(error)
    finally:
        slow.cancel()
    return None


def close_ready(loggers: Sequence[Component]) -> None:
    """Close those of some loggers that were given as objects.

    Args:
        loggers: The loggers.
    """
    for logger in loggers:
        if logger.is_ready:
            _attempt(logger.name, logger.target.close)


class Listeners:
    """A monitor that passes progress on to another one, to loggers, and to a function that may stop a run.

    Args:
        monitor: The other monitor.
        out: The experiment's folder.
        feeds: The loggers.
        on_evaluate: The function; a run for which it returns True or "stop" ends at that step.
    """

    def __init__(self, monitor: Monitor, out: Path, feeds: Feeds, on_evaluate: OnEvaluate | None = None) -> None:
        self.monitor = monitor
        self.out = out
        self.feeds = feeds
        self.on_evaluate = on_evaluate
        self.lock = threading.Lock()

    def started(self, run: str, step: int, num_steps: int, agents: int, engine: str) -> None:
        """Pass on that a run begins or resumes; its metrics reach up to there."""
        self.monitor.started(run, step, num_steps, agents, engine)
        self.feeds.update(run, self.out / run)

    def advanced(self, run: str, step: int, rows: list[Row]) -> str | None:
        """Pass on that a run has reached a step; return why it is to stop there, or None."""
        asked = self.monitor.advanced(run, step, rows)
        if not rows:
            return asked
        self.feeds.update(run, self.out / run)
        return (None if self.on_evaluate is None else self._ask(self.on_evaluate, run, step, rows)) or asked

    def waiting(self, run: str, what: str) -> None:
        """Pass on what a run waits for."""
        self.monitor.waiting(run, what)

    def restarted(self, run: str, why: str) -> None:
        """Pass on that a run is taken up again, and why."""
        self.monitor.restarted(run, why)

    def analyzing(self, run: str, done: int, total: int, what: str) -> None:
        """Pass on that a run is being analysed."""
        self.monitor.analyzing(run, done, total, what)

    def finished(self, run: str, state: str) -> None:
        """Pass on that a run has ended, and let loggers receive what its analysis has measured."""
        if state.startswith(FINISHED) and "interrupted" not in state:
            self.feeds.update(run, self.out / run)
        self.feeds.close(run)
        self.monitor.finished(run, state)

    def _ask(self, function: OnEvaluate, run: str, step: int, rows: list[Row]) -> str | None:
        """Ask a function whether a run goes on; return why not, or None."""
        name = name_of(function)
        metrics = {
            int(row["replica"]): {key: value for key, value in row.items() if key not in ("step", "replica")}
            for row in rows
        }
        try:
            with self.lock:  # runs may go in parallel
                answer = function(self.feeds.title(run), step, metrics)
        except Exception as error:
            raise complaint(SimpleNamespace(key="on_evaluate", name=name, is_own=True), error) or error from error
        if answer is None or (isinstance(answer, bool | np.bool_) and not answer):
            return None
        if isinstance(answer, bool | np.bool_) or answer == "stop":
            return f"on_evaluate ({name}) asked to stop at step {step}"
        raise ExperimentError(
            f"on_evaluate: {name} returned {shown(answer)}; allowed are None or False to go on, True or 'stop' to stop"
        )
