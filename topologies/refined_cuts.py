"""Refinement of cuts: single agents change parts while fewer rows then travel."""

import numpy as np
from scipy.sparse import csr_array

__all__ = ["refine"]

_PASSES = 8
"""Most passes over the agents."""

_PATIENCE = 50
"""Moves without an improvement after which a pass ends."""

_LARGEST = 200_000, 1_000_000
"""Agents × parts, and numbers to look at after a move, beyond which refinement would take seconds."""


def refine(nets: csr_array, part: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Lower the number of rows that travel, in the manner of Fiduccia and Mattheyses.

    In a pass, the move that saves most rows is made again and again, each agent moving once, even if a move costs some;
    sizes may be one off in between. The pass returns to the best point at which all sizes are right.

    Args:
        nets: The agents that a row reaches, its own included, int64 [rows, K].
        part: Part of each agent, int64 [K], with the right sizes.
        sizes: Size of each part.

    Returns:
        A part of each agent, with the same sizes; `part` itself where the graph is too large.
    """
    widest = int(np.diff(nets.T.tocsr().indptr).max(initial=0)), int(np.diff(nets.indptr).max(initial=0))
    if len(part) * len(sizes) > _LARGEST[0] or widest[0] ** 2 * widest[1] * len(sizes) > _LARGEST[1]:
        return part
    moves = _Moves(nets, part, sizes)
    for _ in range(_PASSES):
        if not moves.improve():
            break
    return moves.part


class _Moves:
    """The rows that each move would save, kept up to date.

    With n(e, p) the agents of net e in part p, moving an agent v from part a to b saves
    Σ_{e ∋ v} [n(e, a) = 1] − [n(e, b) = 0] rows.

    Args:
        nets: See `refine`.
        part: See `refine`.
        sizes: See `refine`.
    """

    def __init__(self, nets: csr_array, part: np.ndarray, sizes: np.ndarray) -> None:
        self.part, self.sizes = part.copy(), sizes
        self.pins = np.split(nets.indices, nets.indptr[1:-1])
        self.counts = np.full((nets.shape[0] + 1, len(sizes)), 2)  # the last net stands for none
        self.counts[:-1] = nets @ np.eye(len(sizes), dtype=np.int64)[part]
        belongs = nets.T.tocsr()
        degrees = np.diff(belongs.indptr)
        self.nets = np.full((len(part), degrees.max(initial=0)), nets.shape[0])
        self.nets[np.arange(self.nets.shape[1]) < degrees[:, None]] = belongs.indices
        self.own = [self.nets[agent, :degree] for agent, degree in enumerate(degrees)]

    def improve(self) -> bool:
        """Make a pass; return whether it saves rows."""
        now = np.bincount(self.part, minlength=len(self.sizes))
        free = np.ones(len(self.part), dtype=bool)
        saved = self._saved(np.arange(len(self.part)))
        history: list[tuple[int, int]] = []
        total, best, kept = 0, 0, 0
        while len(history) < kept + _PATIENCE:
            allowed = (free & (now >= self.sizes)[self.part])[:, None] & (now <= self.sizes)
            allowed[np.arange(len(self.part)), self.part] = False
            values = np.where(allowed, saved, np.iinfo(np.int64).min)
            agent, to = divmod(int(values.argmax()), len(self.sizes))
            if not allowed[agent, to]:
                break
            total += int(saved[agent, to])
            history.append((agent, int(self.part[agent])))
            now[self.part[agent]] -= 1
            now[to] += 1
            free[agent] = False
            touched = self._move(agent, to)
            saved[touched] = self._saved(touched)
            if total > best and (now == self.sizes).all():
                best, kept = total, len(history)
        for agent, before in reversed(history[kept:]):
            self._move(agent, before)
        return best > 0

    def _move(self, agent: int, to: int) -> np.ndarray:
        """Move an agent; return those for whom something has changed."""
        own = self.own[agent]
        self.counts[own, self.part[agent]] -= 1
        self.counts[own, to] += 1
        self.part[agent] = to
        return np.unique(np.concatenate([self.pins[net] for net in own]))

    def _saved(self, agents: np.ndarray) -> np.ndarray:
        """Count the rows that each move of some agents would save, int64 [n, parts]."""
        there = self.counts[self.nets[agents]]
        alone = (there == 1).sum(axis=1)[np.arange(len(agents)), self.part[agents]]
        return np.asarray(alone[:, None] - (there == 0).sum(axis=1))
