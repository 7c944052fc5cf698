"""Progress on the terminal: a bar a run with loss, accuracy, speed and time left; a bar for the grid."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from basinet.sim.folder import Row

__all__ = ["TerminalMonitor", "bar", "checking", "how_many"]


_FEW = 20
"""Runs that are checked in no time."""

_SECONDS = 10.0
"""Seconds between two lines where there is no terminal."""


class TerminalMonitor:
    """Shows how runs go: bars on a terminal, a line a finished run where there is none.

    Args:
        num_runs: Runs of the experiment.
        quiet: Whether to show nothing.
    """

    def __init__(self, num_runs: int, *, quiet: bool = False) -> None:
        self.console = Console(file=sys.stderr, quiet=quiet)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.lock = threading.Lock()
        self.started_at: dict[str, tuple[float, int, int]] = {}
        self.tasks: dict[str, TaskID] = {}
        self.texts: dict[str, str] = {}
        self.grid = self.progress.add_task("runs", total=num_runs, text="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def started(self, run: str, step: int, num_steps: int, agents: int, engine: str) -> None:
        """Show a run that begins or resumes.

        Args:
            run: Its name.
            step: Where it begins.
            num_steps: Its length.
            agents: Agents of all replicas together.
            engine: Which engine runs, and why.
        """
        with self.lock:
            self.started_at[run] = (time.monotonic(), step, agents)
            self.tasks[run] = self.progress.add_task(run, total=num_steps, completed=step, text="")
            self.texts[run] = ""
        if step:
            self.console.print(f"{run}: resumed at step {step} of {num_steps}", highlight=False, markup=False)

    def advanced(self, run: str, step: int, rows: list[Row]) -> None:
        """Show a run that has reached a step.

        Args:
            run: Its name.
            step: The step.
            rows: What was measured there, if anything.
        """
        with self.lock:
            begun, first, agents = self.started_at[run]
            if rows:
                self.texts[run] = _means(rows)
            speed = (step - first) * agents / max(time.monotonic() - begun, 1e-9)
            self.progress.update(
                self.tasks[run], completed=step, text=f"{self.texts[run]}{_short(speed)} agent-steps/s"
            )

    def analyzing(self, run: str, done: int, total: int) -> None:
        """Show that a run is being analysed.

        Args:
            run: Its name.
            done: How many of its replicas have been.
            total: How many there are.
        """
        with self.lock:
            self.progress.update(
                self.tasks[run], text=f"{self.texts[run]}measuring flatness, {done} of {total} replicas …"
            )

    def finished(self, run: str, state: str) -> None:
        """Show that a run has ended.

        Args:
            run: Its name.
            state: done, diverged, "failed: " and why, or in words how it came to its end without a step.
        """
        with self.lock:
            skipped = run not in self.tasks
            if not skipped:
                self.progress.remove_task(self.tasks[run])
            self.progress.advance(self.grid)
        note = {"done": "finished before", "diverged": "diverged before"}.get(state, state) if skipped else state
        self.console.print(f"{run}: {note}  {self.texts.get(run, '')}".rstrip(" ·"), highlight=False, markup=False)


@contextmanager
def bar(name: str, *, quiet: bool = False) -> Iterator[Callable[[float, str], None]]:
    """Show how a study or an analysis goes: a bar on a terminal, nothing where there is none.

    Args:
        name: What stands before the bar.
        quiet: Whether to show nothing.

    Yields:
        A function that takes how much is done, from 0 to 1, and what is being done.
    """
    console = Console(file=sys.stderr)
    columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %")
    with Progress(
        *columns,
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}"),
        console=console,
        disable=quiet or not console.is_terminal,
    ) as shown:
        task = shown.add_task(name, total=1.0, text="")
        yield lambda done, text: shown.update(task, completed=done, text=text)


@contextmanager
def checking(num_runs: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Say how large a grid is before its runs are checked, and show how far that is.

    Args:
        num_runs: Runs of the grid; of a few nothing is said.
        quiet: Whether to show nothing.

    Yields:
        A function that takes how many runs have been checked.
    """
    console = Console(file=sys.stderr, quiet=quiet)
    if num_runs <= _FEW:
        yield lambda done: None
        return
    console.print(f"{how_many(num_runs)} to check", highlight=False)
    if console.is_terminal or quiet:
        with bar("checking", quiet=quiet) as show:
            yield lambda done: show(done / num_runs, "")
        return
    said = time.monotonic()

    def tell(done: int) -> None:
        nonlocal said
        if time.monotonic() - said > _SECONDS:
            said = time.monotonic()
            console.print(f"{done:,} of {how_many(num_runs)} checked", highlight=False)

    yield tell


def how_many(runs: int) -> str:
    """Count runs in words.

    Args:
        runs: How many.

    Returns:
        "1 run", "24,000 runs".
    """
    return f"{runs:,} run{'' if runs == 1 else 's'}"


def _means(rows: list[Row]) -> str:
    """Average loss and accuracy over the replicas."""
    text = ""
    for key, word in (("train_loss", "loss"), ("test_accuracy", "accuracy")):
        values = [row[key] for row in rows if key in row]
        if values:
            text += f"{word} {sum(values) / len(values):.4f} · "
    return text


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
