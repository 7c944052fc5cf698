"""Plans: what is prepared of each matrix of a sequence, ahead of the steps that need it."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

from scipy.sparse import csr_array

__all__ = ["Plans"]

T = TypeVar("T")

_AHEAD = 4
"""Steps for which plans are made ahead."""

_ENTRIES = 2**23
"""Entries of the matrices whose plans are kept, in all: a few hundred megabytes."""


class Plans(Generic[T]):
    """Plans of the matrices of a periodic sequence, made in a thread of their own while agents compute.

    As many plans are kept as memory allows; those of a long period are made anew each time, ahead of their step.

    Args:
        matrices: The matrices of a period.
        make: Makes a plan of a matrix; it must not communicate.
        thread: Where plans are made.
        copies: How often a plan holds each entry of its matrix.
        entries: Entries that kept plans may hold.
    """

    def __init__(
        self,
        matrices: Sequence[csr_array],
        make: Callable[[csr_array], T],
        thread: Executor,
        *,
        copies: float = 1.0,
        entries: int = _ENTRIES,
    ) -> None:
        self._matrices = matrices
        self._make = make
        self._thread = thread
        largest = max((weights.nnz for weights in matrices), default=0)
        self._kept = max(_AHEAD + 1, int(entries / (1 + copies * largest)))
        self._made: OrderedDict[int, Future[T]] = OrderedDict()

    def at(self, step: int) -> T:
        """Return the plan of a step, and begin those of the next ones.

        Args:
            step: The step.

        Returns:
            The plan.
        """
        period = len(self._matrices)
        for index in dict.fromkeys((step + ahead) % period for ahead in range(_AHEAD + 1)):
            if index not in self._made:
                self._made[index] = self._begin(self._matrices[index])
            self._made.move_to_end(index)
        while len(self._made) > self._kept:
            self._made.popitem(last=False)
        return self._made[step % period].result()

    def _begin(self, weights: csr_array) -> Future[T]:
        if len(self._matrices) > 1:
            return self._thread.submit(self._make, weights)
        made: Future[T] = Future()
        made.set_result(self._make(weights))
        return made
