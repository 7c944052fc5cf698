"""The Ray cluster: joined, or started on this machine and stopped again, and its capacity."""

import logging
import math
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
import torch

from basinet.sim.experiment.component import ExperimentError, own_modules
from basinet.sim.experiment.mistakes import count_of, first_line
from basinet.sim.run.interruptions import INTERRUPTIONS
from basinet.sim.runtimes.meeting import in_time, patience
from basinet.sim.runtimes.on_ray.run_packing import Needs, Node, capacity
from basinet.sim.setup.memory import memory, processors

__all__ = ["check_room", "cluster", "nodes", "nodes_ahead"]

_log = logging.getLogger(__name__)

_PATIENCE = 60.0
"""Seconds within which a cluster has to answer, by default."""


@contextmanager
def cluster(env: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Join the cluster at `RAY_ADDRESS`, or start one on this machine and stop it at the end.

    Args:
        env: What Ray sets up for the actors. The user's modules go with it to the machines of a cluster.

    Yields:
        Nothing.

    Raises:
        ExperimentError: There is no cluster at `RAY_ADDRESS`, or none can be started here, or this process has joined
            one without the environment.
    """
    env = dict(env or {})
    if ray.is_initialized():
        if env:
            raise ExperimentError(
                "runtime.env: Ray has been initialized in this process; give it to ray.init(runtime_env=…), or let"
                " Basinet call that"
            )
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = _address()
    with nullcontext() if address else _session_folder():
        with _own_signals():
            if address:
                _join(address, env)
            else:
                _start(env)
        _say_less()
        try:
            yield
        except BaseException:
            # Threads that an interruption leaves behind must not start Ray again.
            ray._private.auto_init_hook.enable_auto_connect = False
            raise
        finally:
            ray.shutdown()


def _say_less() -> None:
    """Log what Ray would print on standard output, where results belong: pages about each lost worker and machine."""

    def note(data: Mapping[str, Any], **_: object) -> None:
        _log.info("%s", "\n".join(data["lines"]))

    ray._private.worker.print_to_stdstream = note


def _address() -> str:
    """Return the address of the cluster to join; empty if one is to be started on this machine."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return "" if address == "local" else address


def _start(env: Mapping[str, Any]) -> None:
    """Start Ray on this machine."""
    try:  # without "local", Ray would look for a cluster that was once started here and is gone
        ray.init(
            "local",
            num_cpus=processors(),
            runtime_env=env or None,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except Exception as error:
        raise ExperimentError(f"runtime.name: Ray cannot be started on this machine: {first_line(error)}") from error


def _join(address: str, env: Mapping[str, Any]) -> None:
    """Connect to a cluster, with a timeout; Ray itself would wait for a missing one forever."""
    plain = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if address != "auto" and not plain:
        raise ExperimentError(f"RAY_ADDRESS: got {address!r}; allowed are HOST:PORT, auto, or no such variable")
    seconds = patience(_PATIENCE)
    modules = [*env.get("py_modules", ()), *map(str, own_modules())]

    def connect() -> None:
        given = {**env, **({"py_modules": modules} if modules else {})}
        ray.init(address, runtime_env=given, log_to_driver=False, logging_level="ERROR")

    def knock(host: str, port: int) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection((host, port), timeout=seconds).close()
                return
            except ConnectionRefusedError:  # the head may be about to start
                if time.monotonic() + 0.5 > deadline:
                    raise
                time.sleep(0.5)

    what, remedy = (
        f"the cluster that RAY_ADDRESS names, {address}",
        "start one, unset RAY_ADDRESS, or set RAY_AUTH_MODE=token if it asks for a token",
    )
    if plain:
        host, port = plain[1].strip("[]"), int(plain[2])
        in_time(lambda: knock(host, port), what, seconds, remedy)
    in_time(connect, what, seconds, remedy)


@contextmanager
def _session_folder() -> Iterator[None]:
    """Create a folder for a local Ray, and remove it at the end; Ray itself would leave its files there.

    A shell waits until this process is done with the folder or ends, then kills other processes with a file open in it
    and removes it.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    # A socket's path may have 107 characters, of which Ray's own part takes 70.
    place = chosen or (tempfile.gettempdir() if len(tempfile.gettempdir()) < 20 else "/tmp")
    folder = tempfile.mkdtemp(prefix="ray-", dir=place)
    others = 'find /proc/[0-9]*/fd -lname "$0/*" 2>&- | cut -d/ -f3 | sort -u | grep -vx $PPID'
    remove = f'read -r _; {others} | xargs -r kill -KILL; rm -rf "$0"'
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", remove, folder], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    os.environ["RAY_TMPDIR"] = folder
    try:
        yield
    finally:
        if chosen is None:
            del os.environ["RAY_TMPDIR"]
        else:
            os.environ["RAY_TMPDIR"] = chosen
        keeper.communicate()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's signal handlers, which Ray replaces by its own.

    Processes started meanwhile ignore signals sent to the process group: this process ends them, after a checkpoint.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in INTERRUPTIONS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None if it was not set from Python
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def nodes() -> list[Node]:
    """Look what the machines of the cluster have.

    Returns:
        The resources of each that is alive, whoever uses them.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    names = [node["NodeManagerHostname"] for node in alive]
    if len(set(names)) < len(names):  # several on one machine
        names = [f"{node['NodeManagerHostname']}:{node['NodeManagerPort']}" for node in alive]
    return [_node(name, node["Resources"]) for name, node in zip(names, alive, strict=True)]


def _node(name: str, has: Mapping[str, float]) -> Node:
    """Describe a machine by its resources in the words of Ray, which sets a part of the memory apart for objects."""
    memory = has.get("memory", math.inf) + has.get("object_store_memory", 0)
    return Node(has.get("CPU", 0), (1.0,) * int(has.get("GPU", 0)), name, memory)


def nodes_ahead() -> list[Node]:
    """Look what the machines will have, without starting Ray on this one; a cluster is joined for a moment.

    Returns:
        As `nodes`.
    """
    if ray.is_initialized() or _address():
        with cluster():
            return nodes()
    return [Node(processors(), (1.0,) * torch.cuda.device_count(), socket.gethostname(), memory())]


def check_room(needs: Needs, there: Sequence[Node]) -> None:
    """Check that a run fits on the cluster, if nothing else does.

    Args:
        needs: What it needs.
        there: The machines of the cluster.

    Raises:
        ExperimentError: It does not; the message has the numbers.
    """
    fitting = capacity(needs, there)
    if fitting < needs.workers:
        have = f"{sum(node.cpus for node in there):g} CPUs and {sum(len(node.gpus) for node in there)} GPUs"
        raise ExperimentError(
            f"runtime.actors: got {needs.workers}, each with {needs.cpus:g} CPUs and {needs.gpus:g} GPUs; allowed on"
            f" the cluster's {count_of(len(there), 'node')} with {have} are at most {fitting}: lower runtime.actors,"
            " runtime.cpus_per_actor or runtime.gpus_per_actor"
        )
