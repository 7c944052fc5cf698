"""Processes that tests start: they load the libraries once, none outlives its test, and only a hang meets a limit."""

import atexit
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HANGS = 1800.0
"""Seconds after which a process is taken to hang, on however slow a machine."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["torch._dynamo", "sklearn.datasets", "basinet.launch.cli", "basinet.launch.api", "basinet.sim.runtimes.torchrun"]
)


def free_port() -> int:
    """Find a port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _enter(target: Callable[..., Any], words: tuple[Any, ...], environment: dict[str, str], said: Path) -> None:
    """Call a function as a process of its own would: its return value is the status, what it prints is in files."""
    import torch

    os.environ.clear()
    os.environ.update(environment)
    for number, ending in ((1, ".out"), (2, ".err")):
        with open(f"{said}{ending}", "wb") as file:
            os.dup2(file.fileno(), number)
    torch.set_num_threads(1)
    try:
        sys.exit(target(*words))
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


class Processes:
    """Start processes that are forked from one that has loaded the libraries."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Any] = []

    def start(self, target: Callable[..., Any], *words: Any, **environment: object) -> Any:
        """Start a process in the present folder that calls a function of a module."""
        said = self._folder / str(len(self._all))
        added = {name: str(value) for name, value in environment.items()}
        process = _SERVER.Process(target=_enter, args=(target, words, os.environ | added, said))
        process.said = said
        self._all.append(process)
        process.start()
        return process

    def end(self, processes: Iterable[Any] | None = None) -> tuple[list[int], list[tuple[str, str]]]:
        """Wait for processes, all by default; return their statuses and what they said."""
        chosen = list(self._all if processes is None else processes)
        deadline = time.monotonic() + HANGS
        for process in chosen:
            process.join(max(0.0, deadline - time.monotonic()))
        said = [tuple(Path(f"{p.said}{end}").read_text() for end in (".out", ".err")) for p in chosen]
        assert not any(process.is_alive() for process in chosen), ("hangs", said)
        return [process.exitcode for process in chosen], said

    def wait_until(self, happened: Callable[[], bool], *, alive: bool = True) -> None:
        """Wait for what processes will do, while all of them live, or for what happens once they have ended."""
        deadline = time.monotonic() + HANGS
        while not happened():
            assert time.monotonic() < deadline, "it never happens"
            dead = alive and [process for process in self._all if not process.is_alive()]
            assert not dead, self.end(dead)
            time.sleep(0.05)

    def kill(self) -> None:
        """Leave none behind."""
        for process in self._all:
            process.kill()
            process.join()
            process.close()
