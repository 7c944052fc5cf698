"""Data that can only be iterated over: items by index, from a window of what has been read last."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset

from basinet.sim.data.generators import seed_generators
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import ExperimentError, in_words, place_of

__all__ = ["Stream", "is_stream"]

_CURSORS = 3
"""Places in which a stream is read at the same time: the training, the end of an epoch, and a measurement."""

_COMPARED = 4
"""Number of items that are compared whenever a stream is begun."""

_WINDOWS_KEPT = 3
"""Windows of samples that are kept in each of these places."""


def is_stream(given: Any) -> bool:
    """Return whether something can be iterated over, but not indexed.

    Args:
        given: Anything.

    Returns:
        Whether it is an IterableDataset or the like.
    """
    return isinstance(given, IterableDataset) or (hasattr(given, "__iter__") and not hasattr(given, "__getitem__"))


class Stream:
    """The items of an iterable, by index: read again from the start where they are no longer at hand.

    Args:
        items: An iterable that has the same items whenever it is iterated over.
        window: Number of items from which agents draw at a time; some times as many are kept in memory.
        name: What the data are, for error messages.

    Raises:
        ExperimentError: The iterable cannot be iterated over, or is empty or an iterator.
    """

    def __init__(self, items: Iterable[Any], window: int, name: str) -> None:
        if isinstance(items, Iterator):
            raise ExperimentError(
                f"task: {name} is a {type(items).__name__}, which can be iterated over once only, so that a run could"
                " not be resumed; allowed are iterables, such as an IterableDataset"
            )
        self.items, self.window, self.name = items, window, name
        self._cursors: list[_Cursor] = []
        self._first: list[str] = []
        self._length = sum(1 for _ in self._numbered())
        if self._length == 0:
            raise ExperimentError(f"task: {name} is empty")
        for _ in islice(self._numbered(), _COMPARED):  # compares them
            pass

    def _numbered(self) -> Iterator[Any]:
        """Iterate over the items, with what each draws determined by its number."""
        row = 0
        try:
            seed_generators(0)
            for item in self.items:
                if row < _COMPARED:
                    self._compare(row, item)
                yield item
                row += 1
                seed_generators(row)
        except ExperimentError:
            raise
        except Exception as error:  # the user's iterable may raise anything
            raise ExperimentError(
                f"task: item {row} of {self.name} raises {in_words(error)}{place_of(error)}"
            ) from error

    def _compare(self, row: int, item: Any) -> None:
        """Raise if one of the first items is not what it was before."""
        found = digest(item)
        if row == len(self._first):
            self._first.append(found)
        elif self._first[row] != found:
            raise ExperimentError(
                f"task: item {row} of {self.name} differs when it is iterated over again, so that a run could not be"
                " resumed; allowed are iterables that are the same each time"
            )

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_cursors": []}

    def __getitem__(self, row: int) -> Any:
        at_hand = next((cursor for cursor in self._cursors if cursor.holds(row)), None)
        if at_hand is None:
            behind = [cursor for cursor in self._cursors if cursor.next <= row <= cursor.next + 2 * self.window]
            at_hand = max(behind, key=lambda cursor: cursor.next, default=None)
        if at_hand is None:
            del self._cursors[_CURSORS - 1 :]
            at_hand = _Cursor(self._numbered, _WINDOWS_KEPT * self.window)
        else:
            self._cursors.remove(at_hand)
        self._cursors.insert(0, at_hand)  # the last one is given up first
        try:
            return at_hand.item(row)
        except StopIteration:
            raise ExperimentError(
                f"task: {self.name} had {self._length} items when it was first iterated over, and has fewer now, so"
                " that a run could not be resumed; allowed are iterables that are the same each time"
            ) from None


class _Cursor:
    """A place in a stream, and the last items before it."""

    def __init__(self, begin: Callable[[], Iterator[Any]], kept: int) -> None:
        self.items, self.kept = begin(), kept
        self.next = 0
        self.held: dict[int, Any] = {}

    def holds(self, row: int) -> bool:
        """Return whether an item is at hand."""
        return row in self.held

    def item(self, row: int) -> Any:
        """Read on to an item."""
        while self.next <= row:
            self.held[self.next] = next(self.items)
            self.held.pop(self.next - self.kept, None)
            self.next += 1
        return self.held[row]
