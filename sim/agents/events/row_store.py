"""Storage of rows, each as long as it is needed."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from basinet.algorithms.strategies import Row

__all__ = ["EVENT_ROWS", "RowStore"]

EVENT_ROWS = 8
"""Rows that an agent takes, about: those in use, those that a step makes, a gradient, and the point where it is."""

_MOST, _ROOM = 16, 2**24
"""Rows of an agent for which there is room, so that they are seldom moved, if all are not more numbers than that."""


class RowStore:
    """Keeps rows of P numbers in one tensor, new ones behind the others.

    Args:
        like: A tensor [N, P] of their type, on their device.

    Attributes:
        numbers: The tensor [S, P].
    """

    def __init__(self, like: Tensor) -> None:
        agents, size = like.shape
        self.numbers = like.new_empty(max(EVENT_ROWS * agents, min(_MOST * agents, _ROOM // size)), size)
        self._places: dict[Row, int] = {}  # in ascending order
        self._end = 0

    def places(self, rows: Sequence[Row]) -> list[int]:
        """Return where rows are."""
        return [self._places[row] for row in rows]

    def index(self, rows: Sequence[Row]) -> Tensor:
        """Return where rows are, int64 [n]."""
        return torch.tensor(self.places(rows), dtype=torch.int64, device=self.numbers.device)

    def read(self, rows: Sequence[Row]) -> Tensor:
        """Return rows, [n, P]: where they are, if they are there in this order, or copies."""
        places = self.places(rows)
        if places == list(range(places[0], places[0] + len(places))):
            return self.numbers[places[0] : places[0] + len(places)]
        return self.numbers.index_select(0, self.index(rows))

    def copy(self, rows: Sequence[Row], out: Tensor) -> None:
        """Copy rows to a tensor [n, P], which is none of the rows."""
        torch.index_select(self.numbers, 0, self.index(rows), out=out)

    def new(self, rows: Sequence[Row], like: Sequence[Row] = ()) -> Tensor:
        """Return new rows, for which there is room.

        Args:
            rows: The rows.
            like: What they are copies of at first; by default their values are arbitrary.

        Returns:
            [n, P], where they are.
        """
        known, first = self.numbers[: self._end], self._end
        self._end += len(rows)
        made = self.numbers[first : self._end]
        if like:
            torch.index_select(known, 0, self.index(like), out=made)
        self._places.update(zip(rows, range(first, self._end), strict=True))
        return made

    def has_room(self, count: int) -> bool:
        """Return whether there is room for more rows."""
        return self._end + count <= len(self.numbers)

    def keep(self, rows: Collection[Row], count: int) -> None:
        """Forget all other rows, and make room.

        Args:
            rows: The rows that are needed.
            count: For how many more there has to be room.
        """
        kept = {row: place for row, place in self._places.items() if row in rows}
        numbers = self.numbers
        if len(kept) + count > len(numbers):
            numbers = self.numbers.new_empty(len(kept) + count, self.numbers.shape[1])
        for place, before in enumerate(kept.values()):  # which is not before it
            if numbers is not self.numbers or place != before:
                numbers[place].copy_(self.numbers[before])
        self.numbers, self._places, self._end = numbers, dict(zip(kept, range(len(kept)), strict=True)), len(kept)
