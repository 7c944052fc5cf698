"""Broadcasts: the same row to all neighbours, of which a few columns are held at a time."""

from collections.abc import Callable, Iterator

from torch import Tensor

from basinet.sim.agents.messages.disturbed.late_rows import Arriving
from basinet.sim.agents.personal import Personal

__all__ = ["Broadcast"]


class Broadcast:
    """What each agent receives in a broadcast; iterating again gives the same.

    Args:
        x: The rows, [N, P].
        arriving: What arrives of them.
        personal: The parameters that agents do not share.
        piece: See `Neighbors.broadcast`.
        alter: Changes in place what is heard, given what is told, what is heard, and the columns.
    """

    def __init__(
        self,
        x: Tensor,
        arriving: Arriving,
        personal: Personal,
        piece: int,
        alter: Callable[[Tensor, Tensor, slice], None],
    ) -> None:
        self._x, self._arriving = x, arriving
        self._personal = personal
        self._piece = piece
        self._alter = alter

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for columns, heard in self._arriving.pieces(self._piece):
            told = self._x[:, None, columns].expand_as(heard)
            self._alter(told, heard, columns)
            self._personal.keep(heard, told, columns)
            yield columns, heard
