"""Broadcasts: the same row to all neighbours, of which a few columns are held at a time."""

from collections.abc import Callable, Iterator

from torch import Tensor

from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.agents.personal import Personal

__all__ = ["Broadcast"]


class Broadcast:
    """What each agent receives in a broadcast; iterating again gives the same.

    Args:
        neighbors: The neighbours that are heard.
        x: The rows, [N, P].
        personal: The parameters that agents do not share.
        piece: See `Neighbors.broadcast`.
        alter: Changes in place what is heard, given what is told, what is heard, and the columns.
    """

    def __init__(
        self,
        neighbors: Neighbors,
        x: Tensor,
        personal: Personal,
        piece: int,
        alter: Callable[[Tensor, Tensor, slice], None],
    ) -> None:
        self._neighbors = neighbors
        self._x, self._others = x, neighbors.others(x)
        self._personal = personal
        self._piece = piece
        self._alter = alter

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for columns, told, heard in self._neighbors.broadcast(self._x, self._others, self._piece):
            self._alter(told, heard, columns)
            self._personal.keep(heard, told, columns)
            yield columns, heard
