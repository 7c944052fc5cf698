"""The ranks started by torchrun: the first one leads, the others execute its calls.

Calls and answers travel over a channel without a timeout, since the leader may be busy for long; a rank that dies
closes it, which the others notice at once.
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

from basinet.sim.experiment.component import extend_path
from basinet.sim.run.interruptions import answering, watching
from basinet.sim.runtimes.meeting import in_time, own_host, patience, session
from basinet.sim.runtimes.silence import Heart, Silence
from basinet.sim.runtimes.team import RankLostError
from basinet.sim.runtimes.world import world

__all__ = ["Performer", "Ranks"]

_AS_LONG_AS_IT_TAKES = timedelta(days=365)

_PATIENCE = 300.0
"""Seconds within which all ranks have to appear, by default."""

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


class Performer(Protocol):
    """Executes the leader's calls, on every rank."""

    def leave(self) -> None:
        """Release all resources; does nothing if there are none."""


@dataclass(frozen=True)
class _Answer:
    """A rank's return value, and whether it has been interrupted."""

    value: Any
    asked_to_stop: bool


@dataclass(frozen=True)
class _Outcome:
    """The result of the leader's work."""

    value: Any = None
    error: BaseException | None = None


class Ranks:
    """This process among the ranks started by torchrun.

    Attributes:
        rank: This rank; 0 leads.
        size: Number of ranks.
        store: A key-value store that all ranks can read.
        step: Returns the step of the run on this rank, or None.
        silence: Tells which ranks hang.
        leading: Whether this rank is leading work that the others serve.
        asked_to_stop: Whether another rank has been interrupted.
        failed: Whether something has failed on this serving rank, which no other rank reports.
    """

    def __init__(self) -> None:
        self.rank, self.size, address = world()
        self.leading = False
        self.asked_to_stop = False
        self.failed = False
        self._lost: str | None = None
        self._interrupted = False
        self._serving = False
        self._closed = threading.Event()
        others = f"the other ranks of {self.size}, as RANK and WORLD_SIZE say, at {address}"
        remedy = "start all of them, or unset RANK and WORLD_SIZE"
        self.step: Callable[[], int | None] = lambda: None
        self.store, self._channel = in_time(self._meet, others, patience(_PATIENCE), remedy)
        self.heart, self.silence = self._listen()
        _end_with_launcher()
        _remove_log_folders()
        atexit.register(self.close)  # before the interpreter shuts down

    def _meet(self) -> tuple[Any, Any]:
        """Meet the other ranks; return the store and the channel, whose methods torch's annotations lack."""
        socket.getaddrinfo(os.environ["MASTER_ADDR"], None)  # fails at once, where torch would keep trying
        everything, _, _ = next(rendezvous("env://"))
        store = PrefixStore(session(everything, self.rank, self.size), everything)
        return store, dist.ProcessGroupGloo(PrefixStore("channel", store), self.rank, self.size, _AS_LONG_AS_IT_TAKES)

    def _listen(self) -> tuple[Heart, Silence]:
        """Begin to tell how this rank is, and to look after others: the leader after all, itself too, all after it."""
        heart = Heart(own_host(), lambda: self.step())
        self.store.set(f"heart {self.rank}", pickle.dumps(heart.address))
        watched = range(self.size) if self.rank == 0 else [0]
        silence = Silence({rank: pickle.loads(self.store.get(f"heart {rank}")) for rank in watched})
        threading.Thread(target=self._look_after, args=(silence,), name="silence", daemon=True).start()
        return heart, silence

    def _look_after(self, silence: Silence) -> None:
        """End this process if a rank hangs: others wait for it in code that hears nothing else."""
        while not self._closed.wait(silence.pause):
            if not (self.leading or self._serving):  # the others may have ended
                silence.forget()
            elif (hanging := silence.look()) is not None and (self.leading or self._serving):
                if self.rank <= 1:  # one says it
                    print(f"basinet: {hanging}; the same command goes on from the last checkpoint", file=sys.stderr)  # noqa: T201
                    sys.stderr.flush()
                os._exit(1)

    def close(self) -> None:
        """Close the channel."""
        self._closed.set()
        self.heart.close()
        self._channel = None

    def call(self, performer: Performer, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every rank's performer.

        Args:
            performer: The leader's performer.
            method: Name of the method.
            *arguments: Its arguments.

        Returns:
            The return value of each rank.

        Raises:
            RankLostError: A rank is gone.
            RuntimeError: The method failed on another rank. A failure on this one is raised unchanged, unless another
                rank's failure caused it. In either case, the ranks cannot continue together.
        """
        if self._lost is not None:
            raise RankLostError(self._lost)
        message = _dumps((method, arguments))
        try:
            with self._whole():
                self._broadcast(message)
                value = getattr(performer, method)(*arguments)
                answers = [_loads(self._receive(rank)) for rank in range(1, self.size)]
        except Exception as error:
            if self.size > 1:
                _outlive_launcher()
            is_first = self.store.add("failures", 1) == 1  # the others fail as soon as this rank has left
            performer.leave()
            # Ranks that fail leave word and end; so do those that lose the connection to one that has been killed.
            if (gone := self.silence.absent(lambda rank: self.store.check([f"failure {rank}"]))) is not None:
                self._lost = gone
                raise RankLostError(gone) from error
            if not is_first:
                self._raise_first_failure()
            raise error
        self.asked_to_stop |= any(answer.asked_to_stop for answer in answers)
        return [value, *(answer.value for answer in answers)]

    def _raise_first_failure(self) -> None:
        """Raise the first failure, which was on another rank."""
        rank = int(self.store.get("first"))
        error, report = pickle.loads(self.store.get(f"failure {rank}"))
        failure = RuntimeError(f"rank {rank}: {error}")
        failure.add_note(f"At rank {rank}:\n{report}")
        raise failure from None

    def serve(self, performer: Performer) -> Any:
        """Execute the leader's calls until its work is done.

        An interruption is passed on to the leader, which decides what to do.

        Args:
            performer: Has the methods.

        Returns:
            The result of the leader's work.

        Raises:
            BaseException: Raised by the leader's work.
        """
        self._interrupted = False
        self.heart.stop.clear()
        with answering(self._interrupt), self._at_service():
            while True:
                message = self._broadcast()
                try:
                    received = _loads(message)
                    if not isinstance(received, _Outcome):
                        method, arguments = received
                        with watching(self.heart.stop):
                            value = getattr(performer, method)(*arguments)
                        reply = _dumps(_Answer(value, self._interrupted))
                except Exception as error:
                    self.failed = True
                    # The end of this process releases the others from waiting for it; nothing else is as reliable.
                    self.store.set(f"failure {self.rank}", pickle.dumps((str(error), traceback.format_exc())))
                    if self.store.add("failures", 1) == 1:
                        self.store.set("first", str(self.rank))
                    raise
                if isinstance(received, _Outcome):
                    if received.error is not None:
                        raise received.error
                    return received.value
                self._send(reply)

    @contextmanager
    def _at_service(self) -> Iterator[None]:
        self._serving = True
        try:
            yield
        finally:
            self._serving = False

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        """Tell the others the result of the leader's work; if they cannot be told, they find the channel closed.

        Args:
            value: The return value.
            error: The exception raised.
        """
        try:
            message = _dumps(_Outcome(value, error))
        except Exception:  # the user's exception may not be picklable
            message = _dumps(_Outcome(error=RuntimeError(f"rank 0: {error}")))
        with suppress(RankLostError), self._whole():
            self._broadcast(message)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Close the channel if a call is cut short, since calls and answers would no longer match."""
        if self._lost is not None:
            raise RankLostError(self._lost)
        try:
            yield
        except BaseException as error:
            self._lost = str(error) if isinstance(error, RankLostError) else f"a call was cut short: {error}"
            self._channel = None  # so that no other rank keeps waiting
            raise

    def _interrupt(self, number: int) -> None:
        self._interrupted = True
        # Its answer will say so, too, but the call may take long.
        threading.Thread(target=self.silence.workers[0].stop, name="interruption", daemon=True).start()

    def _broadcast(self, message: bytes | None = None) -> bytes:
        """Broadcast a message from the leader."""
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


def _remove_log_folders() -> None:
    """Remove the folders that torchrun made for logs of this rank, if it writes none; it makes others at a restart.

    At the end of the process it would be too late: torchrun kills the others when a rank fails.
    """
    folders = list(Path(os.environ.get("TORCHELASTIC_ERROR_FILE", "")).parents)
    made = next((n for n, folder in enumerate(folders) if folder.name.startswith("torchelastic_")), -1)
    with suppress(OSError):
        for folder in folders[: made + 1]:
            folder.rmdir()


def _end_with_launcher() -> None:
    """Have the system interrupt this rank if torchrun is killed, so that it stops with a checkpoint."""
    if "TORCHELASTIC_RUN_ID" in os.environ and threading.current_thread() is threading.main_thread():
        with suppress(AttributeError, OSError):  # not Linux
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _outlive_launcher() -> None:
    """Ignore that torchrun ends all ranks as soon as one has failed: this one ends later, with its own status."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _dumps(value: Any) -> bytes:
    """Pickle a value, including what the user's script defines."""
    from ray import cloudpickle

    data: bytes = cloudpickle.dumps((_Homes(), value))
    return data


def _loads(message: bytes) -> Any:
    """Read a pickled value, which may refer to modules beside the sender's experiment."""
    return pickle.loads(message)[1]


class _Homes:
    """Lets the receiver of a message find modules beside the experiment before it reads the rest."""

    def __reduce__(self) -> tuple[Any, ...]:
        return extend_path, extend_path()


def _tensor(message: bytes) -> Tensor:
    return torch.frombuffer(bytearray(message), dtype=torch.uint8)


def _wait(peer: str, start: Callable[..., dist.Work], *arguments: Any) -> None:
    try:
        start(*arguments).wait()
    except RuntimeError as error:
        raise RankLostError(f"{peer} is gone: {error}") from error
