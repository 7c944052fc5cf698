"""Rows that other workers compute, and that they need."""

from collections.abc import Collection, Iterable

from basinet.algorithms.strategies import Row
from basinet.sim.agents.events.row_store import RowStore
from basinet.sim.agents.messages.wire import Route, Wire

__all__ = ["CrossingRows"]


class CrossingRows:
    """Carries rows to the workers that read them, each once.

    Args:
        rank: This worker.
        wire: Carries them.
    """

    def __init__(self, rank: int, wire: Wire) -> None:
        self._rank = rank
        self._wire = wire
        self._known: set[tuple[Row, int]] = set()

    def carry(self, reads: Iterable[tuple[Row, int, int]], store: RowStore) -> None:
        """Send rows of this worker to those that read them next, and store those of others that are read here.

        Args:
            reads: Rows, their owners and their readers, in the same order on both.
            store: The rows of this worker, with room for more.
        """
        leaving: dict[int, list[Row]] = {}
        coming: dict[int, list[Row]] = {}
        for row, owner, reader in reads:
            if owner == reader or self._rank not in (owner, reader) or (row, reader) in self._known:
                continue
            self._known.add((row, reader))
            if owner == self._rank:
                leaving.setdefault(reader, []).append(row)
            else:
                coming.setdefault(owner, []).append(row)
        ranks = sorted({*leaving, *coming})
        if not ranks:
            return
        routes = {rank: Route(store.index(leaving.get(rank, [])), len(coming.get(rank, []))) for rank in ranks}
        (found,) = self._wire.send([(routes, store.numbers)]).fetch()
        if rows := [row for rank in ranks for row in coming.get(rank, [])]:
            store.new(rows).copy_(found)

    def keep(self, rows: Collection[Row]) -> None:
        """Forget who knows all other rows."""
        self._known = {(row, reader) for row, reader in self._known if row in rows}
