"""Answers of Ray actors, and whether a missing one is a fault of the run or the loss of a worker."""

import math
import re
import threading
import time
from typing import Any

import ray
import torch.distributed as dist
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from basinet.sim.experiment.mistakes import first_line
from basinet.sim.runtimes.silence import Silence
from basinet.sim.runtimes.team import Stopped, WorkerLost

__all__ = ["answers", "check_ray"]

_NEWS_SECONDS = 5.0
"""Seconds within which Ray knows that an actor has died, after others have noticed that it does not answer."""

_STOP_SECONDS = 0.5
"""Seconds between two looks whether to wait no more."""

_DEATHS: tuple[type[RayError], ...] = (
    RayActorError,
    NodeDiedError,
    WorkerCrashedError,
    OutOfMemoryError,
    ObjectLostError,
)

_CONNECTION = re.compile(r"gloo|NCCL|Connection (closed|reset|refused)|Broken pipe")
"""What torch says of a connection to another worker; it has no type for gloo's errors."""


def answers(pending: list[Any], silence: Silence | None = None, stop: threading.Event | None = None) -> list[Any]:
    """Wait for the answers of actors.

    Args:
        pending: One of each actor.
        silence: Tells which actors hang; None to wait for as long as it takes.
        stop: Set to wait no more.

    Returns:
        The answers.

    Raises:
        Stopped: `stop` was set.
        WorkerLost: An actor has died or hangs, or the actors have lost their connection.
        RayTaskError: An actor has raised what cannot be pickled.
        Exception: An actor's exception as it was, with Ray's as its cause.
    """
    pause = math.inf if silence is None else silence.pause
    next_look = time.monotonic() + pause
    while True:
        wait = min(pause, math.inf if stop is None else _STOP_SECONDS)
        try:
            found: list[Any] = ray.get(pending, timeout=None if wait == math.inf else wait)
            return found
        except GetTimeoutError:
            if stop is not None and stop.is_set():
                raise Stopped from None
            if silence is not None and time.monotonic() >= next_look:
                next_look = time.monotonic() + pause
                if (hanging := silence.look()) is not None:
                    raise WorkerLost(hanging) from None
        except RayTaskError as error:
            # Actors that wait for messages of a lost one raise errors of their own, as if the run were at fault.
            if len(pending) > 1 and (lost := _loss(pending, error, silence)) is not None:
                raise WorkerLost(lost) from error
            if isinstance(error.cause, Exception):
                raise error.cause from error
            raise
        except _DEATHS as dead:
            if isinstance(dead, RayActorError) and dead.actor_init_failed:
                raise
            raise WorkerLost(_obituary(dead, silence)) from dead
        except Exception:
            if not ray.is_initialized():  # as this process ends
                raise Stopped from None
            raise


def check_ray() -> None:
    """Raise if Ray has ended on this machine, which starts no actors then, nor carries what they answer.

    Raises:
        RuntimeError: It has.
    """
    here = ray.get_runtime_context().get_node_id()
    if not any(node["Alive"] and node["NodeID"] == here for node in ray.nodes()):
        raise RuntimeError("Ray has ended on this machine; start it again, and the run continues where it stopped")


def _loss(pending: list[Any], error: RayTaskError, silence: Silence | None) -> str | None:
    """Tell which loss is behind an actor's error, if any."""
    if (dead := _death(pending)) is not None:
        return _obituary(dead, silence)
    if silence is not None and (absent := silence.absent()) is not None:
        return absent  # Ray takes longer to notice the loss of a machine
    if isinstance(error.cause, dist.DistError) or _CONNECTION.search(str(error.cause)):
        return f"the workers have lost their connection: {first_line(error.cause)}"
    return None


def _death(pending: list[Any]) -> RayError | None:
    """Look for an actor that has died."""
    end = time.monotonic() + _NEWS_SECONDS
    left = pending
    while left and time.monotonic() < end:
        ready, left = ray.wait(left, timeout=max(0.0, end - time.monotonic()))
        for result in ready:
            try:
                ray.get(result)
            except RayTaskError:
                pass
            except _DEATHS as dead:
                return dead
    return None


def _obituary(death: RayError, silence: Silence | None) -> str:
    """Say in one line which actor died, and why, as far as Ray knows, or which one does not answer."""
    text = str(death)
    process, host = (re.search(rf"(?m)^\s*{key}: (\S+)", text) for key in ("pid", "ip"))
    if process is None and silence is not None and (absent := silence.absent()) is not None:
        return absent
    who = f"the Ray actor of process {process[1]}" if process else "a Ray actor"
    where = f" on {host[1]}" if host else ""
    if isinstance(death, OutOfMemoryError) or "low on memory" in text:
        why = "was ended, since the machine ran out of memory"
    elif isinstance(death, NodeDiedError) or "its node" in text:
        why = "is gone with its machine"
    else:
        why = "died"
    return f"{who}{where} {why}"
