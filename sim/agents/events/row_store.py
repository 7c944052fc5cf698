"""Storage of rows, each as long as it is needed."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from basinet.algorithms.strategies import Row

__all__ = ["RowStore"]


class RowStore:
    """Keeps rows of P numbers in one tensor.

    Args:
        like: A tensor [N, P] of their type, on their device.

    Attributes:
        numbers: The tensor [S, P].
    """

    def __init__(self, like: Tensor) -> None:
        self.numbers = torch.empty_like(like, requires_grad=False)
        self._places: dict[Row, int] = {}
        self._free = list(range(len(like)))[::-1]

    def places(self, rows: Sequence[Row]) -> Tensor:
        """Return where rows are, int64 [n]."""
        return torch.tensor([self._places[row] for row in rows], device=self.numbers.device)

    def take(self, rows: Sequence[Row]) -> Tensor:
        """Return copies of rows, [n, P]."""
        return self.numbers.index_select(0, self.places(rows))

    def put(self, rows: Sequence[Row], numbers: Tensor) -> None:
        """Store new rows.

        Args:
            rows: The rows.
            numbers: [n, P].
        """
        while len(self._free) < len(rows):
            size = len(self.numbers)
            self.numbers = torch.cat([self.numbers, torch.empty_like(self.numbers)])
            self._free = [*range(size, 2 * size)][::-1] + self._free
        for row in rows:
            self._places[row] = self._free.pop()
        self.numbers.index_copy_(0, self.places(rows), numbers)

    def drop(self, rows: Iterable[Row]) -> None:
        """Give up rows."""
        for row in rows:
            self._free.append(self._places.pop(row))

    @property
    def rows(self) -> list[Row]:
        """The rows that are stored."""
        return [*self._places]
