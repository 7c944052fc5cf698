"""Compiled loops for the CPU over the rows of several tensors [N, ...]: what torch takes more passes or calls for.

Rows are cut into pieces at places that are the same however many threads share them, so that these change no result.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, partial
from math import inf
from os import getpid
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import increment_version

from basinet.algorithms.norms import RowMath

__all__ = ["CompiledMath", "compiled"]

_PIECE = 2**14
"""Numbers that are gone through at a time."""

_SHARE = 16
"""Pieces that a thread is worth starting for."""


def compiled(function: Callable[..., None], *, reorder: bool = False) -> Callable[..., None]:
    """Compile a function when it is first called, and keep what comes out where there is a place for it.

    Args:
        function: The function.
        reorder: Whether sums may be taken in another order, as vectors of a processor need it.

    Returns:
        The function, compiled.
    """
    fastmath = {"contract", "reassoc", "nsz"} if reorder else {"contract"}
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath}
    try:
        kept: Callable[..., None] = njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        kept = njit(**options)(function)
    return kept


class _Table(NamedTuple):
    """Where rows are in memory, and how they are cut.

    Attributes:
        pieces: How many there are of all rows.
        starts: Which piece of a row each tensor begins, and how many a row has.
        sizes: Numbers that a row has in each tensor.
        addresses: Where the tensors are.
        parts: The tensors, which have to live as long.
    """

    pieces: int
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    addresses: NDArray[np.int64]
    parts: list[Tensor]


@lru_cache(maxsize=256)
def _cut(agents: int, sizes: tuple[int, ...]) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    lengths = np.array([size // max(agents, 1) for size in sizes], dtype=np.int64)
    starts = np.cumsum([0, *-(-lengths // _PIECE)], dtype=np.int64)
    return agents * int(starts[-1]), starts, lengths


@intrinsic
def _pointer(_, address):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), generate


@njit
def _find(starts, sizes, piece):  # type: ignore[no-untyped-def]
    """Tell of a piece its row, its tensor, its first number there and how many it has."""
    row, k = divmod(piece, starts[-1])
    t = np.searchsorted(starts, k, side="right") - 1
    begin = (k - starts[t]) * _PIECE
    return row, t, row * sizes[t] + begin, min(_PIECE, sizes[t] - begin)


@njit
def _numbers(address, begin, length, like):  # type: ignore[no-untyped-def]
    return carray(_pointer(address + begin * like.itemsize), (length,), like.dtype)


@partial(compiled, reorder=True)
def _square(first, last, starts, sizes, parts, like, out):  # type: ignore[no-untyped-def]
    """Sum the squares of each piece, in double precision: that of a small float32 is zero in single."""
    for piece in range(first, last):
        _, t, begin, length = _find(starts, sizes, piece)
        x = _numbers(parts[t], begin, length, like)
        total = 0.0
        for i in range(length):
            value = np.float64(x[i])
            total += value * value
        out[piece] = total


@partial(compiled, reorder=True)
def _step(first, last, starts, sizes, own, along, factors, rate, keep, out):  # type: ignore[no-untyped-def]
    """Compute x_n ← ρ x_n + μ (c_n d_n), and the sum of the squares of each piece, which memory leaves the time for."""
    rate, keep = factors.dtype.type(rate), factors.dtype.type(keep)
    for piece in range(first, last):
        row, t, begin, length = _find(starts, sizes, piece)
        x = _numbers(own[t], begin, length, factors)
        d = _numbers(along[t], begin, length, factors)
        c = factors[row]
        total = 0.0
        for i in range(length):
            x[i] = keep * x[i] + rate * (c * d[i])
            value = np.float64(x[i])
            total += value * value
        out[piece] = total


@compiled
def _gather(sums, out):  # type: ignore[no-untyped-def]
    """Add the sums of the pieces of each row."""
    pieces = len(sums) // max(len(out), 1)
    for row in range(len(out)):
        out[row] += sums[row * pieces : (row + 1) * pieces].sum()


@compiled
def _bound(squares, scale, most, out):  # type: ignore[no-untyped-def]
    most = min(most, np.finfo(out.dtype).max)
    for row in range(len(out)):
        norm = np.sqrt(squares[row])
        out[row] = min(scale / norm, most) if norm > 0 else 0.0


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _share(loop: Callable[..., None], table: _Table, *arguments: Any) -> None:
    """Run a loop over all pieces, on as many threads as torch has."""
    count, starts, sizes, addresses, _ = table
    threads = min(torch.get_num_threads(), count // _SHARE)
    if threads < 2:
        loop(0, count, starts, sizes, addresses, *arguments)
        return
    bounds = [count * share // threads for share in range(threads + 1)]
    pool = _pool(threads, getpid())  # a fork has none of its parent's threads
    run = pool.map(lambda first, last: loop(first, last, starts, sizes, addresses, *arguments), bounds, bounds[1:])
    deque(run, 0)


class CompiledMath(RowMath):
    """Compiled loops, for contiguous tensors on the CPU of one type that NumPy has.

    Args:
        agents: N.
        dtype: The type.
    """

    def __init__(self, agents: int, dtype: torch.dtype) -> None:
        self._agents = agents
        self._ones = _ones(agents, dtype)

    def table(self, parts: list[Tensor]) -> _Table:
        """Find out where tensors are in memory."""
        cut = _cut(self._agents, tuple([part.numel() for part in parts]))
        return _Table(*cut, np.array([part.data_ptr() for part in parts], dtype=np.int64), parts)

    def zeros(self) -> NDArray[np.float64]:
        """Give squares of zero, in double precision."""
        return np.zeros(self._agents)

    def add_squares(self, rows: _Table, squares: NDArray[np.float64]) -> None:
        """Add ‖v_n‖²; see `RowMath.add_squares`."""
        sums = np.empty(rows.pieces)
        _share(_square, rows, self._ones, sums)
        _gather(sums, squares)

    def inverse_roots(self, squares: NDArray[np.float64], scale: float = 1.0, most: float = inf) -> NDArray[Any]:
        """Compute min(a / ‖v_n‖, b); see `RowMath.inverse_roots`."""
        factors = np.empty_like(self._ones)
        _bound(squares, scale, most, factors)
        return factors

    def step(
        self,
        own: _Table,
        along: _Table,
        factors: NDArray[Any] | None,
        rate: float,
        keep: float = 1.0,
        squares: NDArray[np.float64] | None = None,
    ) -> None:
        """Step in place: x_n ← ρ x_n + μ c_n d_n; see `RowMath.step`."""
        sums = np.empty(own.pieces)
        _share(_step, own, along.addresses, self._ones if factors is None else factors, rate, keep, sums)
        increment_version(own.parts)  # autograd is to know
        if squares is not None:
            _gather(sums, squares)


@lru_cache(maxsize=256)
def _ones(agents: int, dtype: torch.dtype) -> NDArray[Any]:
    return torch.ones(agents, dtype=dtype).numpy()
