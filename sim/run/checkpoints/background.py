"""The writing of checkpoints beside the training, which only waits while a state is copied."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self

from basinet.sim.experiment.mistakes import first_line
from basinet.sim.run.checkpoints.tensor_files import TensorFile
from basinet.sim.run.folder import RunFolder

__all__ = ["WRITING_SHARE", "CheckpointWriter"]

_log = logging.getLogger(__name__)

_WAITING_SHARE = 0.02
"""Largest share of the time that training waits for checkpoints, unless the experiment asks to keep many."""

WRITING_SHARE = 0.2
"""Largest share of the time in which the last checkpoint is written."""


class CheckpointWriter:
    """Writes the checkpoints of a run, one after another, in a thread; a context manager that waits for the last one.

    What the thread raises, such as for a full disk, is raised by the next call of any method.

    Args:
        folder: The run's folder.
        every: Seconds between two checkpoints, or more if that takes too much of the time.
        first: Seconds until the first one.
    """

    def __init__(self, folder: RunFolder, every: float, first: float) -> None:
        self.folder = folder
        self.every = every
        self._begun, self._pause, self._took = time.monotonic(), first, 0.0
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.wait()
        except OSError as unwritten:
            if kind is None:
                raise
            _log.warning("%s", first_line(unwritten))  # what has ended the training is said first
        finally:
            self._thread.shutdown()

    def is_due(self) -> bool:
        """Return whether it is time for a checkpoint."""
        if self._last is not None and self._last.done():
            self.wait()
        return time.monotonic() - self._begun > max(self._pause, self._took / WRITING_SHARE)

    def replace(self, collect: Callable[[], dict[str, Any]]) -> None:
        """Write the last checkpoint.

        Args:
            collect: Returns a copy of the state.
        """
        begun = time.monotonic()
        self._write(self._replace, collect)
        self._begun = time.monotonic()
        self._pause = max(self.every, (self._begun - begun) / _WAITING_SHARE)

    def keep(self, step: int, collect: Callable[[], dict[str, Any]]) -> None:
        """Write a checkpoint that is kept.

        Args:
            step: Its step.
            collect: Returns a copy of the state.
        """
        self._write(partial(self.folder.write_checkpoint, self.folder.kept(step)), collect)

    def drop(self, step: int) -> None:
        """Delete a kept checkpoint.

        Args:
            step: Its step.
        """
        self.wait()
        self.folder.kept(step).unlink(missing_ok=True)

    def wait(self) -> None:
        """Wait until all that was to be written is on disk."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def _write(self, write: Callable[[TensorFile], None], collect: Callable[[], dict[str, Any]]) -> None:
        self.wait()  # before there is a second copy in memory
        self._last = self._thread.submit(write, TensorFile(collect()))

    def _replace(self, content: TensorFile) -> None:
        begun = time.monotonic()
        self.folder.replace_checkpoint(content)
        self._took = time.monotonic() - begun
