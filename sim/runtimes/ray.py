"""Ray: the agents of a run in actors, blocks of agents each, on one machine or a cluster.

Ray starts and places the workers and carries setups, measurements and checkpoints. Parameters travel between
the workers themselves, by torch.distributed.
"""

import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
import torch.distributed as dist
from ray.exceptions import RayTaskError

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker, pick_device
from basinet.sim.engines import EngineName
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config, Runtime
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.run.interruptions import INTERRUPTIONS
from basinet.sim.runtimes.meeting import in_time, patience
from basinet.sim.runtimes.team import TIMEOUT, Stopped, Team
from basinet.sim.setup.setup import Setup

__all__ = ["RayTeam", "cluster", "runs_that_fit"]

_PATIENCE = 60.0
"""Seconds in which a cluster has to answer, if the environment does not say otherwise."""

_LOOK_SECONDS = 0.5
"""Seconds between two looks whether actors have been placed."""

_TELL_SECONDS = 10.0, 300.0
"""Seconds after which it is said what actors wait for, and between two such sentences."""


class _Actor:
    """A worker inside a Ray actor."""

    def address(self) -> str:
        """Find an address at which this actor can be met by the others."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"tcp://{host}:{probe.getsockname()[1]}"

    def start(self, setup: Setup, placement: Placement, address: str, engine: EngineName) -> str:
        """Meet the other workers and build the block; return the engine's name."""
        if placement.workers > 1:
            runtime = setup.config.runtime
            # NCCL wants a GPU for each worker.
            backend = "nccl" if pick_device(runtime).type == "cuda" and runtime.gpus_per_actor >= 1 else "gloo"
            dist.init_process_group(
                backend,
                init_method=address,
                rank=placement.rank,
                world_size=placement.workers,
                timeout=TIMEOUT,
            )
        self.worker = Worker(setup, placement, engine)
        return self.worker.block.oracle.engine.name

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker."""
        return getattr(self.worker, method)(*arguments)


class RayTeam(Team):
    """The workers of a run as Ray actors.

    Args:
        setup: The parts of the run.
        engine: Name of the engine, or "auto": the first worker then chooses for all.
        stop: Is set when the run shall stop, which may be before its actors have been placed.
        waiting: Is told what they wait for.

    Raises:
        Stopped: `stop` was set before all actors were placed.
    """

    def __init__(self, setup: Setup, engine: EngineName, stop: threading.Event, waiting: Callable[[str], None]) -> None:
        runtime = setup.config.runtime
        workers = runtime.actors
        make = ray.remote(num_cpus=runtime.cpus_per_actor, num_gpus=runtime.gpus_per_actor)(_Actor)
        self.actors = [make.remote() for _ in range(workers)]
        try:
            address = self._placed(stop, lambda missing: waiting(_needs(runtime, missing)))
            shared = ray.put(setup)
            pending = []
            for rank, actor in enumerate(self.actors):
                placement = Placement.split(setup.config.replicas, setup.num_agents, workers, rank)
                pending.append(actor.start.remote(shared, placement, address, engine))
            _get(pending)
        except BaseException:
            self.__exit__()
            raise

    def _placed(self, stop: threading.Event, waiting: Callable[[int], None]) -> str:
        """Wait until all actors have been placed; return the address of the first."""
        addresses = [actor.address.remote() for actor in self.actors]
        next_word, pause = time.monotonic() + _TELL_SECONDS[0], _TELL_SECONDS[1]
        while True:
            _, missing = ray.wait(addresses, num_returns=len(addresses), timeout=_LOOK_SECONDS)
            if not missing:
                return str(_get(addresses)[0])
            if stop.is_set():
                raise Stopped
            if time.monotonic() > next_word:
                next_word = time.monotonic() + pause
                waiting(len(missing))

    def __exit__(self, *_: object) -> None:
        for actor in self.actors:
            ray.kill(actor)

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        shared = [ray.put(argument) for argument in arguments]
        results: list[Any] = _get([actor.call.remote(method, *shared) for actor in self.actors])
        return results


def _needs(runtime: Runtime, actors: int) -> str:
    """Say what actors wait for."""
    free = ray.available_resources()
    wanted = {"CPU": actors * runtime.cpus_per_actor, "GPU": actors * runtime.gpus_per_actor}
    short = {kind: count for kind, count in wanted.items() if count > free.get(kind, 0)}
    if not short:
        return f"{actors} Ray {'actor' if actors == 1 else 'actors'} to start"
    parts = [f"{count:g} {kind}s, of which {free.get(kind, 0):g} are free" for kind, count in short.items()]
    return f"the Ray cluster: {'; '.join(parts)}"


def _get(pending: Any) -> Any:
    """Wait for what actors return; what one of them raised is raised as it is, caused by Ray's account of it."""
    try:
        return ray.get(pending)
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise


@contextmanager
def cluster() -> Iterator[None]:
    """Join the cluster that `RAY_ADDRESS` names, or start one on this machine; leave what was found as it was.

    Yields:
        Nothing.

    Raises:
        ExperimentError: `RAY_ADDRESS` names no cluster, or none can be started here.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS", "").strip()
    # Without "local" Ray would wait for a cluster that has been started here some day and is gone.
    with _session_folder() if address in ("", "local") else nullcontext():
        with _own_signals():
            if address in ("", "local"):
                _start()
            else:
                _join(address)
        try:
            yield
        finally:
            ray.shutdown()


def _start() -> None:
    """Start Ray on this machine."""
    try:
        ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        raise ExperimentError(f"runtime.name: Ray cannot be started on this machine: {first_line(error)}") from error


def _join(address: str) -> None:
    """Connect to a cluster. Ray itself would wait for one that is not there for as long as it takes."""
    plain = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if address != "auto" and not plain:
        raise ExperimentError(f"RAY_ADDRESS: got {address!r}; allowed are HOST:PORT, auto, or no such variable")
    seconds = patience(_PATIENCE)

    def connect() -> None:
        ray.init(address, log_to_driver=False, logging_level="ERROR")

    def knock(host: str, port: int) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection((host, port), timeout=seconds).close()
                return
            except ConnectionRefusedError:  # a head that is about to start
                if time.monotonic() + 0.5 > deadline:
                    raise
                time.sleep(0.5)

    what, remedy = (
        f"the cluster that RAY_ADDRESS names, {address}",
        "start one, or unset RAY_ADDRESS",
    )
    if plain:
        host, port = plain[1].strip("[]"), int(plain[2])
        in_time(lambda: knock(host, port), what, seconds, remedy)
    in_time(connect, what, seconds, remedy)


@contextmanager
def _session_folder() -> Iterator[None]:
    """Give Ray a folder of its own while it is started here; it would leave what it writes there for ever.

    A shell waits until this process is done with it or ends, and then removes what is left: other processes with a
    file open in the folder, and the folder.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    # The path of a socket may have 107 letters, of which Ray's own part takes 70.
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
    """Keep this process's answers to interruptions, which Ray replaces by its own.

    What is started meanwhile is deaf to those that are sent to a whole group: this process ends it, after a checkpoint.
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
            if handler is not None:  # not one that Python does not know
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def runs_that_fit(config: Config) -> int:
    """Compute how many such runs the cluster can hold at once.

    Args:
        config: A run.

    Returns:
        At least 1.

    Raises:
        ExperimentError: Not even one fits; the message has the numbers.
    """
    runtime = config.runtime
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # An actor cannot be split between nodes: what fits is counted node by node.
    slots = 0
    for node in nodes:
        fit = int(node.get("CPU", 0) / runtime.cpus_per_actor + 1e-9)
        if runtime.gpus_per_actor:
            fit = min(fit, int(node.get("GPU", 0) / runtime.gpus_per_actor + 1e-9))
        slots += fit
    if slots < runtime.actors:
        have = f"{sum(n.get('CPU', 0) for n in nodes):g} CPUs and {sum(n.get('GPU', 0) for n in nodes):g} GPUs"
        raise ExperimentError(
            f"runtime.actors: {runtime.actors} actors of {runtime.cpus_per_actor:g} CPUs and "
            f"{runtime.gpus_per_actor:g} GPUs do not fit on the cluster's {len(nodes)} node(s) with {have}; "
            f"at most {slots} do: lower runtime.actors, runtime.cpus_per_actor or runtime.gpus_per_actor"
        )
    return max(1, slots // runtime.actors)
