"""Packing of runs on machines: each takes what its workers need, node by node, and the others wait.

Nothing here knows Ray, whose rules these are: a worker has its processors and GPUs on one node, and a part of a GPU on
one GPU.
"""

import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

__all__ = ["Needs", "Node", "capacity", "fit", "seated", "spread"]

_NEGLIGIBLE = 1e-9
"""Shares of processors and GPUs that rounding may make of nothing."""


@dataclass(frozen=True)
class Needs:
    """What the workers of a run need.

    Attributes:
        workers: Their number.
        cpus: Processors of each.
        gpus: GPUs of each: a fraction of one, or a whole number.
    """

    workers: int
    cpus: float
    gpus: float

    @property
    def size(self) -> tuple[float, float, int]:
        """What runs are ordered by: GPUs, the scarcest, then processors."""
        return self.workers * self.gpus, self.workers * self.cpus, self.workers


@dataclass(frozen=True)
class Node:
    """What is free on a machine.

    Attributes:
        cpus: Processors.
        gpus: The free share of each GPU.
        name: Its name.
        memory: Bytes that it grants to workers, whoever uses them.
    """

    cpus: float
    gpus: tuple[float, ...] = ()
    name: str = ""
    memory: float = math.inf

    def less(self, needs: Needs) -> "Node | None":
        """Place a worker.

        Args:
            needs: What it needs.

        Returns:
            What is free then; None if there is no room for it.
        """
        cpus = self.cpus - needs.cpus
        if cpus < -_NEGLIGIBLE:
            return None
        gpus = list(self.gpus)
        whole, part = int(needs.gpus), needs.gpus % 1
        # A part of a GPU goes where the least is left over.
        shares = [1.0] * whole if not part else [part]
        for share in shares:
            free = min((g for g in gpus if g >= share - _NEGLIGIBLE), default=None)
            if free is None:
                return None
            gpus[gpus.index(free)] = free - share
        return replace(self, cpus=cpus, gpus=tuple(gpus))


def _placed(needs: Needs, nodes: Sequence[Node], most: float) -> tuple[list[int], list[Node]]:
    """Place up to so many workers; return the place of each one's node, and what is free then."""
    left: list[Node] = list(nodes)
    places: list[int] = []
    for place, node in enumerate(nodes):
        free: Node | None = node
        while len(places) < most and (free := free.less(needs) if free is not None else None) is not None:
            left[place] = free
            places.append(place)
    return places, left


def seated(needs: Needs, nodes: Sequence[Node]) -> list[Node]:
    """Return the node of each worker of a run, if nothing else is executed: as few nodes as possible, in their order.

    Args:
        needs: What each needs.
        nodes: What is free.

    Returns:
        As many nodes as there are workers, or fewer if there is no room for all.
    """
    return [nodes[place] for place in _placed(needs, nodes, needs.workers)[0]]


def capacity(needs: Needs, nodes: Sequence[Node]) -> int:
    """Count the workers that fit.

    Args:
        needs: What each needs.
        nodes: What is free.

    Returns:
        Their number.
    """
    return len(_placed(needs, nodes, math.inf)[0])


def fit(runs: Iterable[Needs], nodes: Sequence[Node]) -> bool:
    """Return whether runs fit beside each other, the largest placed first.

    Args:
        runs: What each needs.
        nodes: What is free.

    Returns:
        Whether all do.
    """
    left = list(nodes)
    for needs in sorted(runs, key=lambda needs: needs.size, reverse=True):
        places, left = _placed(needs, left, needs.workers)
        if len(places) < needs.workers:
            return False
    return True


def spread(work: Sequence[Callable[[], None]], needs: Sequence[Needs], nodes: Callable[[], Sequence[Node]]) -> None:
    """Execute runs in threads, as many at once as there is room for.

    Of those that wait, the largest for which there is room begins next, and of equal ones the first. If none is
    executed, the largest begins in any case: it may have to wait for what others use.

    Args:
        work: Callables that each execute one run, or several in turn.
        needs: What each of them needs.
        nodes: Returns what all machines have, which may change.
    """
    waiting: dict[Needs, deque[Callable[[], None]]] = {}
    for do, need in zip(work, needs, strict=True):
        waiting.setdefault(need, deque()).append(do)
    running: list[Needs] = []
    ended: queue.SimpleQueue[tuple[Needs, BaseException | None]] = queue.SimpleQueue()

    def carry_out(do: Callable[[], None], need: Needs) -> None:
        error = None
        try:
            do()
        except BaseException as raised:
            error = raised
        ended.put((need, error))

    def start() -> None:
        there = nodes()
        for need in sorted(waiting, key=lambda need: need.size, reverse=True):
            while waiting[need] and (not running or fit([*running, need], there)):
                threading.Thread(target=partial(carry_out, waiting[need].popleft(), need), daemon=True).start()
                running.append(need)  # only now: a thread that cannot be started never ends

    failed: BaseException | None = None
    try:
        start()
        while running:
            need, error = ended.get()
            running.remove(need)
            failed = failed or error
            if failed is None:
                start()
    except Exception:  # an interruption waits for none
        for _ in running:
            ended.get()
        raise
    if failed is not None:
        raise failed
