"""The log of a worker: what its process prints during a run, in a file of the run's folder."""

import logging
import os
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import UTC, datetime
from io import TextIOBase, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile
from typing import TextIO

__all__ = ["WorkerLog", "keep_collected"]

_MOST = 2**20
"""Most bytes that travel at a time from a machine that does not see the folder: the last ones."""


class WorkerLog:
    """Takes down what this process prints, from now on until it is closed.

    Args:
        folder: The folder of the logs; if it is not seen from this machine, a temporary file takes its place.
        rank: Rank of the worker; its file is worker-RANK.log, which grows when the run goes on.
        leads: Whether this process talks to the user, who goes on seeing what it prints: its standard output is then
            taken down, and the warnings that are logged.

    Attributes:
        is_far: Whether the folder is not seen from this machine, so that the log has to be collected.
    """

    def __init__(self, folder: Path, rank: int, *, leads: bool = False) -> None:
        self._held = ExitStack()
        self.is_far = not folder.is_dir()
        self._collected = 0
        self._file: TextIO | None = self._held.enter_context(_far_file() if self.is_far else _log_file(folder, rank))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._file.write(f"--- worker {rank}: process {os.getpid()} on {socket.gethostname()}, {now}\n")
        self._held.enter_context(_copied(self._file) if leads else _redirected(self._file))

    def collected(self) -> str:
        """Return what has been taken down since the last call, if it has to be collected: the end of very much."""
        if self._file is None or not self.is_far:
            return ""
        begun, size = self._collected, os.fstat(self._file.fileno()).st_size
        first, self._collected = max(begun, size - _MOST), size
        text = os.pread(self._file.fileno(), size - first, first).decode(errors="replace")
        return f"--- {first - begun:,} bytes are left out\n{text}" if first > begun else text

    def failed(self) -> None:
        """Take down the traceback of the exception that is being handled."""
        if self._file is not None:
            self._file.write(traceback.format_exc())

    def close(self) -> None:
        """Take down nothing more."""
        self._file = None
        self._held.close()


def keep_collected(folder: Path, texts: Sequence[str]) -> None:
    """Write down the logs of workers from whose machines the folder is not seen.

    Args:
        folder: The folder of the logs.
        texts: For each worker, `WorkerLog.collected`.
    """
    for rank, text in enumerate(texts):
        if text:
            with _log_file(folder, rank) as file:
                file.write(text)


def _log_file(folder: Path, rank: int) -> TextIO:
    return open(folder / f"worker-{rank}.log", "a", encoding="utf-8", errors="replace", buffering=1)


def _far_file() -> TextIO:
    return TemporaryFile("w+", encoding="utf-8", errors="replace", buffering=1)


@contextmanager
def _redirected(file: TextIO) -> Iterator[None]:
    """Redirect all output of this process, of libraries in C, too."""
    saved = []
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a process that is killed flushes nothing
        saved.append((number, stream, os.dup(number)))
        os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        for number, stream, before in saved:
            stream.flush()
            os.dup2(before, number)
            os.close(before)


@contextmanager
def _copied(file: TextIO) -> Iterator[None]:
    """Copy what Python code prints, and the warnings that it logs."""
    handler = logging.StreamHandler(file)
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        with redirect_stdout(_Both(sys.stdout, file)):
            yield
    finally:
        logging.getLogger().removeHandler(handler)


class _Both(TextIOBase):
    """Writes to two streams."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()
