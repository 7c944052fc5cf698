"""Progress on the terminal: a bar for the grid, and for a few of the runs in progress loss, main metric and speed."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Self

from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from basinet.launch.terminal import console, messages
from basinet.sim.run.quantity import QUANTITIES, Quantity
from basinet.sim.run.records import FINISHED, Row

__all__ = ["TerminalMonitor", "bar", "checking", "how_many"]


_FEW = 20
"""Runs that are checked too quickly for a bar, and of which each has a line when it ends; failures that have one."""

_BARS = 8
"""Most bars of runs in progress."""

_WIDE = 100
"""Columns of a terminal from which on the speed is shown beside what is measured."""

_SECONDS, _SHARE = 10.0, 0.1
"""Seconds between two lines without a terminal, and the share of the elapsed time, so that logs stay short."""


class _Lines:
    """Prints progress lines at intervals, without a terminal.

    Args:
        say: Prints a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.begun = self.said = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print a line if one is due.

        Args:
            text: The line.
        """
        now = time.monotonic()
        if now - self.said > max(_SECONDS, _SHARE * (now - self.begun)):
            self.said = now
            self.say(text)


class _TimeLeft(TimeRemainingColumn):
    """The time left: of the grid as it was estimated, of a run by the speed of its steps."""

    def render(self, task: Task) -> Text:
        known = task.fields.get("left")
        return super().render(task) if known is None else Text(known, style="progress.remaining")


class TerminalMonitor:
    """Shows progress of runs: bars on a terminal, otherwise (notebook, log) a line at intervals.

    Of many runs, only those that fail or are interrupted have a line of their own when they end.

    Args:
        num_runs: Number of runs of the experiment.
        quiet: Whether to show nothing.
        judged_by: The number shown besides the training loss, by run: its name and its description.
    """

    def __init__(
        self, num_runs: int, *, quiet: bool = False, judged_by: Mapping[str, tuple[str, Quantity]] | None = None
    ) -> None:
        self.judged_by = judged_by or {}
        self.console = console(messages(), quiet=quiet)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),  # makes room on a narrow terminal
            TextColumn("{task.fields[count]}", style="progress.download", table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[text]}", markup=False),
            _TimeLeft(compact=True, table_column=Column(no_wrap=True)),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.lock = threading.Lock()
        self.started_at: dict[str, tuple[float, int, int]] = {}
        self.tasks: dict[str, TaskID] = {}
        self.texts: dict[str, str] = {}
        self.lines = _Lines(self.say if self.progress.disable else lambda text: None)
        self.num_runs = num_runs
        self.ended: Counter[str] = Counter()
        self.before = 0
        self.parts: dict[str, tuple[float, float]] = {}
        self.begun = time.monotonic()
        self.grid = self.progress.add_task("runs", total=num_runs, text="", count=f"0/{num_runs}", left="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        if self.num_runs > _FEW:
            self.say(f"{how_many(self.num_runs)}: {self._counts()}")

    def say(self, text: str) -> None:
        """Print a line.

        Args:
            text: The line.
        """
        self.console.print(text, soft_wrap=True)

    def started(self, run: str, step: int, num_steps: int, agents: int, engine: str) -> None:
        """Show a run that begins or resumes.

        Args:
            run: Its name.
            step: The step at which it begins.
            num_steps: Its number of steps.
            agents: Number of agents, all replicas together.
            engine: Name of the engine, and why it was chosen.
        """
        with self.lock:
            self.started_at[run] = (time.monotonic(), step, agents)
            again = run in self.tasks  # with other workers
            if not again:
                self.tasks[run] = self.progress.add_task(run, text="", count="")
            self.progress.reset(self.tasks[run], total=num_steps, completed=step, text="", count=f"{step}/{num_steps}")
            self.texts.setdefault(run, "")
            self.parts[run] = step / num_steps, step / num_steps
            self._show_few()
        if step and self.num_runs <= _FEW and not again:
            self.say(f"{run}: resumed at step {step} of {num_steps}")

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
                self.texts[run] = self._means(run, rows)
            speed = (step - first) * agents / max(time.monotonic() - begun, 1e-9)
            fast = f"{_short(speed)} agent-steps/s" if step > first else ""
            wide = self.progress.disable or self.console.width >= _WIDE
            text = self.texts[run] + fast if wide else self.texts[run] or fast
            self._show(run, text.removesuffix(" · "), step)

    def _means(self, run: str, rows: list[Row]) -> str:
        """Average training loss and main metric over the replicas."""
        shown = {"train_loss": QUANTITIES["train_loss"]}
        if run in self.judged_by:
            key, known = self.judged_by[run]
            shown.setdefault(key, known)
        text = ""
        for key, known in shown.items():
            values = [row[key] for row in rows if key in row]
            if values:
                text += f"{known.heading} {sum(values) / len(values):.4f} · "
        return text

    def waiting(self, run: str, what: str) -> None:
        """Print what a run waits for before it can begin.

        Args:
            run: Its name.
            what: What it waits for.
        """
        self.say(f"{run}: waiting for {what}")

    def restarted(self, run: str, why: str) -> None:
        """Print that a run is taken up again.

        Args:
            run: Its name.
            why: Why.
        """
        self.say(f"{run}: taken up again: {why}")

    def analyzing(self, run: str, done: int, total: int, what: str) -> None:
        """Show that a run is being analysed.

        Args:
            run: Its name.
            done: Number of replicas analysed.
            total: Number of replicas, in all kept states.
            what: Names of the measures being taken; empty before the first.
        """
        of = f" of replica {done + 1} of {total}" if total > 1 else ""
        with self.lock:
            self._show(run, f"{self.texts[run]}trained, measuring {what or 'flatness'}{of} …")

    def _show(self, run: str, text: str, step: int | None = None) -> None:
        task = self.progress.tasks[self.progress.task_ids.index(self.tasks[run])]
        step, total = int(task.completed if step is None else step), int(task.total or 1)
        self.progress.update(self.tasks[run], completed=step, text=text, count=f"{step}/{total}")
        self.parts[run] = self.parts[run][0], step / total
        self._show_grid(f"{run}: step {step} of {total}  {text}".rstrip())

    def _show_grid(self, text: str = "") -> None:
        """Show how far the grid is."""
        left, ended = self._left(), self.ended.total()
        self.progress.update(
            self.grid, completed=ended, text=self._counts(), count=f"{ended}/{self.num_runs}", left=left or "-:--:--"
        )
        grid = "" if self.num_runs == 1 else f"{ended} of {how_many(self.num_runs)} ended ({self._counts()})"
        self.lines("; ".join(filter(None, [grid, left and grid and f"{left} left", text])))

    def _counts(self) -> str:
        running = len(self.tasks)
        hidden = f" ({running - _BARS} not shown)" if running > _BARS and not self.progress.disable else ""
        waiting = self.num_runs - self.ended.total() - running
        before = f" ({self.before} before)" if self.before else ""
        parts = [f"{count} {state}{before * (state == 'done')}" for state, count in self.ended.items()]
        parts += [f"{running} running{hidden}"] * (running > 0) + [f"{waiting} waiting"] * (waiting > 0)
        return " · ".join(parts)

    def _left(self) -> str:
        """Estimate the time until all runs have ended, by the share of them that has been executed so far."""
        taken = sum(now - first for first, now in self.parts.values())
        left = self.num_runs - self.ended.total() - sum(self.parts[run][1] for run in self.tasks)
        if taken <= 0:
            return ""
        seconds = round((time.monotonic() - self.begun) * left / taken)
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def _show_few(self) -> None:
        """Show the bars of the runs that have begun first."""
        for place, task in enumerate(self.tasks.values()):
            self.progress.update(task, visible=place < _BARS)

    def finished(self, run: str, state: str) -> None:
        """Show that a run has ended.

        Args:
            run: Its name.
            state: "done", "diverged", "failed: " and why, or how it ended without a step.
        """
        kind = state.partition(":")[0].split()[0].rstrip(",")
        with self.lock:
            task = self.tasks.pop(run, None)
            if task is not None:
                self.progress.remove_task(task)
                self._show_few()
            self.ended[kind] += 1
            before = task is None and state in FINISHED and run not in self.texts
            self.before += before and kind == "done"
            if run in self.parts and (kind in FINISHED or kind == "paused"):  # as far as it is to go
                self.parts[run] = self.parts[run][0], 1.0
            self._show_grid()
            told = self.num_runs <= _FEW or (kind in ("failed", "interrupted") and self.ended[kind] <= _FEW)
        if told:
            note = {"done": "finished before", "diverged": "diverged before"}.get(state, state) if before else state
            self.say(f"{run}: {note}  {self.texts.get(run, '')}".rstrip(" ·"))


@contextmanager
def bar(name: str, *, quiet: bool = False) -> Iterator[Callable[[float, str], None]]:
    """Show progress of a study or an analysis: a bar on a terminal, otherwise a line at intervals.

    Args:
        name: Label of the bar.
        quiet: Whether to show nothing.

    Yields:
        A function of the fraction done, from 0 to 1, and a description of the current work.
    """
    shown_on = console(messages(), quiet=quiet)
    columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=24)
    with Progress(
        *columns,
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}", markup=False),
        console=shown_on,
        disable=quiet or not shown_on.is_terminal,
    ) as shown:
        task, lines = shown.add_task(name, total=1.0, text=""), _Lines(partial(shown_on.print, soft_wrap=True))

        def show(done: float, text: str) -> None:
            shown.update(task, completed=done, text=text)
            if shown.disable:
                lines(f"{name}: {100 * done:.0f} % {text}".rstrip())

        yield show


@contextmanager
def checking(num_runs: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Print the size of a grid before its runs are checked, and show progress.

    Args:
        num_runs: Number of runs of the grid; for a few, nothing is shown.
        quiet: Whether to show nothing.

    Yields:
        A function of the number of runs checked.
    """
    if num_runs <= _FEW:
        yield lambda done: None
        return
    console(messages(), quiet=quiet).print(f"{how_many(num_runs)} to check")
    with bar("checking", quiet=quiet) as show:
        yield lambda done: show(done / num_runs, f"{done:,} of {how_many(num_runs)}")


def how_many(runs: int) -> str:
    """Count runs in words.

    Args:
        runs: Number of runs.

    Returns:
        "1 run", "24,000 runs".
    """
    return f"{runs:,} run{'' if runs == 1 else 's'}"


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
