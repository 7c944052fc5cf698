"""The ranks that torchrun has started: the first one leads, the others do what it says.

What the leader says and what it is answered travels over a channel of its own. It may be silent for as long as the
leader is busy; a rank that dies closes it, which the others notice at once.
"""

import atexit
import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from basinet.sim.run.interruptions import answering
from basinet.sim.runtimes.meeting import in_time, patience
from basinet.sim.runtimes.world import world

__all__ = ["Performer", "RankLostError", "Ranks"]

_AS_LONG_AS_IT_TAKES = timedelta(days=365)

_PATIENCE = 300.0
"""Seconds in which all ranks have to be there, if the environment does not say otherwise."""

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


class RankLostError(RuntimeError):
    """A rank has died, or cannot be reached: there is nothing that the others could do together any more."""


class Performer(Protocol):
    """Does what the leader says, on every rank."""

    def leave(self) -> None:
        """Let go of everything; does nothing where there is nothing."""


@dataclass(frozen=True)
class _Answer:
    """What a rank returned, and whether it has been interrupted."""

    value: Any
    asked_to_stop: bool


@dataclass(frozen=True)
class _Outcome:
    """What the leader's work came to."""

    value: Any = None
    error: BaseException | None = None


class Ranks:
    """This process among those that torchrun has started.

    Attributes:
        rank: Which one it is; 0 leads.
        size: How many there are.
        store: Holds what all of them may read.
        leading: Whether this rank leads work that the others serve.
        asked_to_stop: Whether some other rank has been interrupted.
        failed: Whether something has failed at this rank, which serves: no other one says so.
    """

    def __init__(self) -> None:
        self.rank, self.size, address = world()
        self.leading = False
        self.asked_to_stop = False
        self.failed = False
        self._lost: str | None = None
        self._interrupted = False
        others = f"the other ranks of {self.size}, as RANK and WORLD_SIZE say, at {address}"
        remedy = "start all of them, or unset RANK and WORLD_SIZE"
        self.store, self._channel = in_time(self._meet, others, patience(_PATIENCE), remedy)
        _end_with_launcher()
        atexit.register(self.close)  # while the interpreter is still whole

    def _meet(self) -> tuple[Any, Any]:
        """Find the other ranks; return the store and the channel, whose methods torch's annotations do not know."""
        socket.getaddrinfo(os.environ["MASTER_ADDR"], None)  # torch would try again and again
        store, _, _ = next(rendezvous("env://"))
        return store, dist.ProcessGroupGloo(PrefixStore("channel", store), self.rank, self.size, _AS_LONG_AS_IT_TAKES)

    def close(self) -> None:
        """Let go of the channel, and of the folders that torchrun made for this rank's log, if nothing is in them."""
        self._channel = None
        folders = list(Path(os.environ.get("TORCHELASTIC_ERROR_FILE", "")).parents)
        made = next((n for n, folder in enumerate(folders) if folder.name.startswith("torchelastic_")), -1)
        with suppress(OSError):
            for folder in folders[: made + 1]:
                folder.rmdir()

    def call(self, performer: Performer, method: str, *arguments: Any) -> list[Any]:
        """Let every rank call a method of its performer.

        Args:
            performer: The leader's own.
            method: Name of the method.
            *arguments: What it is given.

        Returns:
            What each rank returned.

        Raises:
            RankLostError: A rank is gone.
            RuntimeError: The method failed at another rank. What fails at this one is raised as it is, unless it did so
                because another one had failed. In either case nothing can be done together any more.
        """
        if self._lost is not None:
            raise RankLostError(self._lost)
        message = _dumps((method, arguments))
        try:
            with self._whole():
                self._broadcast(message)
                value = getattr(performer, method)(*arguments)
                answers = [pickle.loads(self._receive(rank)) for rank in range(1, self.size)]
        except Exception as error:
            performer.leave()
            self._raise_first_failure()
            raise error
        self.asked_to_stop |= any(answer.asked_to_stop for answer in answers)
        return [value, *(answer.value for answer in answers)]

    def _raise_first_failure(self) -> None:
        """Raise what failed first, if it was at another rank."""
        if self.store.add("failures", 1) == 1:
            return
        rank, error, report = pickle.loads(self.store.get("failure"))
        failure = RuntimeError(f"rank {rank}: {error}")
        failure.add_note(f"At rank {rank}:\n{report}")
        raise failure from None

    def serve(self, performer: Performer) -> Any:
        """Do what the leader says until its work is done.

        An interruption is passed on to the leader, which decides what becomes of it.

        Args:
            performer: Has the methods.

        Returns:
            What the leader's work came to.

        Raises:
            BaseException: What the leader's work raised.
        """
        # What the leader sends may name modules beside the experiment.
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        self._interrupted = False
        with answering(self._interrupt):
            while True:
                message = self._broadcast()
                try:
                    said = pickle.loads(message)
                    if not isinstance(said, _Outcome):
                        method, arguments = said
                        value = getattr(performer, method)(*arguments)
                        reply = _dumps(_Answer(value, self._interrupted))
                except Exception as error:
                    self.failed = True
                    # Whoever waits for this rank is let go by its end, of which nothing else can be as sure.
                    if self.store.add("failures", 1) == 1:
                        self.store.set("failure", pickle.dumps((self.rank, str(error), traceback.format_exc())))
                    raise
                if isinstance(said, _Outcome):
                    if said.error is not None:
                        raise said.error
                    return said.value
                self._send(reply)

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        """Tell the others what the leader's work came to; if they cannot be told, they find the channel closed.

        Args:
            value: What it returned.
            error: What it raised.
        """
        try:
            message = _dumps(_Outcome(value, error))
        except Exception:  # whatever an error of the user's own holds
            message = _dumps(_Outcome(error=RuntimeError(f"rank 0: {error}")))
        with suppress(RankLostError), self._whole():
            self._broadcast(message)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Give up the channel where a call is cut short: questions and answers would no longer fit."""
        if self._lost is not None:
            raise RankLostError(self._lost)
        try:
            yield
        except BaseException as error:
            self._lost = str(error) if isinstance(error, RankLostError) else f"a call was cut short: {error}"
            self._channel = None  # so that nobody waits at the other end
            raise

    def _interrupt(self, number: int) -> None:
        self._interrupted = True

    def _broadcast(self, message: bytes | None = None) -> bytes:
        """Send from the leader to all others, who give nothing."""
        peer = "a rank" if self.rank == 0 else "rank 0"
        size = torch.tensor([len(message or b"")])
        _wait(peer, self._channel.broadcast, [size], dist.BroadcastOptions())
        data = torch.empty(int(size), dtype=torch.uint8) if message is None else _tensor(message)
        _wait(peer, self._channel.broadcast, [data], dist.BroadcastOptions())
        return data.numpy().tobytes() if message is None else message

    def _send(self, message: bytes) -> None:
        for tensor in (torch.tensor([len(message)]), _tensor(message)):
            _wait("rank 0", self._channel.send, [tensor], 0, 0)

    def _receive(self, rank: int) -> bytes:
        size = torch.tensor([0])
        _wait(f"rank {rank}", self._channel.recv, [size], rank, 0)
        data = torch.empty(int(size), dtype=torch.uint8)
        _wait(f"rank {rank}", self._channel.recv, [data], rank, 0)
        return data.numpy().tobytes()


def _end_with_launcher() -> None:
    """Let the system interrupt this rank, which then stops with a checkpoint, if torchrun is killed."""
    if "TORCHELASTIC_RUN_ID" in os.environ and threading.current_thread() is threading.main_thread():
        with suppress(AttributeError, OSError):  # not Linux
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _dumps(value: Any) -> bytes:
    """Pickle a value, with what the user's script has defined."""
    from ray import cloudpickle

    data: bytes = cloudpickle.dumps(value)
    return data


def _tensor(message: bytes) -> Tensor:
    return torch.frombuffer(bytearray(message), dtype=torch.uint8)


def _wait(peer: str, start: Callable[..., dist.Work], *arguments: Any) -> None:
    try:
        start(*arguments).wait()
    except RuntimeError as error:
        raise RankLostError(f"{peer} is gone: {error}") from error
