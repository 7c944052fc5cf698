"""Compiled CPU loops over the rows of several tensors [N, ...], for which torch needs more passes or calls.

Rows are cut into the same pieces whatever the number of threads, which therefore changes no result.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, partial
from math import inf
from os import getpid
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import carray, njit, types, vectorize
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import increment_version

from basinet.algorithms.row_norms import RowMath
from basinet.topologies.compiling import kept

__all__ = ["CompiledMath", "add_products", "compiled", "fold", "halves"]

_PIECE = 2**14
"""Numbers per piece."""

_SHARE = 16
"""Pieces for which a thread is worth starting."""


def compiled(function: Callable[..., None], *, reorder: bool = False, fuse: bool = True) -> Callable[..., None]:
    """Compile a function on its first call, and cache the result on disk if possible.

    Args:
        function: The function.
        reorder: Whether sums may be reordered, for vector instructions.
        fuse: Whether a product and a sum may be rounded once, where the processor can; NumPy rounds both.

    Returns:
        The function, compiled.
    """
    fastmath = ({"contract"} if fuse else set()) | ({"reassoc", "nsz"} if reorder else set())
    return kept(lambda **more: njit(nogil=True, fastmath=fastmath, **more)(function))


def _mixed(key, number):  # type: ignore[no-untyped-def]
    """Hash a key and a number as `draws.fold` does."""
    h = np.uint64(key) + np.uint64(number + 1) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(h ^ (h >> np.uint64(31)))


_mix = kept(lambda **more: vectorize(["int64(int64, int64)"], **more)(_mixed))
_hash = njit(_mixed)


@compiled
def _halves(keys, first, second):  # type: ignore[no-untyped-def]
    half, most, number = 0.5, 2.0**-32, first.dtype.type
    for i in range(len(keys)):
        for j in range(first.shape[1]):
            h = np.uint64(_hash(keys[i], j))
            first[i, j] = (number(np.int64(h >> np.uint64(32))) + number(half)) * number(most)
            second[i, j] = number(np.int64(h & np.uint64(2**32 - 1))) * number(2.0 * np.pi * most)


def halves(keys: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Hash keys with counters, and make the two numbers of `draws.normal` from each hash.

    Args:
        keys: int64 [...] on the CPU.
        count: Hashes per key.
        dtype: float32 or float64.

    Returns:
        [2, *keys.shape, count]: numbers in (0, 1], and angles in [0, 2π).
    """
    made = torch.empty((2, keys.numel(), count), dtype=dtype)
    first, second = made.numpy()
    _halves(keys.reshape(-1).numpy(), first, second)
    return made.view(2, *keys.shape, count)


def fold(keys: Tensor, data: Tensor | int) -> Tensor:
    """Derive new keys; see `draws.fold`.

    Args:
        keys: int64 tensor on the CPU.
        data: Integers, broadcast against `keys`.

    Returns:
        int64 tensor of the broadcast shape.
    """
    return torch.from_numpy(np.asarray(_mix(keys.numpy(), data.numpy() if isinstance(data, Tensor) else data)))


class _Table(NamedTuple):
    """Layout of rows in memory, and how they are cut.

    Attributes:
        pieces: Number of pieces of all rows.
        starts: The first piece of each tensor in a row, then the number of pieces per row.
        sizes: Entries of a row in each tensor.
        addresses: Addresses of the tensors.
        parts: The tensors, kept alive.
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
    """Interpret a number as a memory address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), generate


@njit
def _find(starts, sizes, piece):  # type: ignore[no-untyped-def]
    """Return the row of a piece, its tensor, its first entry there and its length."""
    row, k = divmod(piece, starts[-1])
    t = np.searchsorted(starts, k, side="right") - 1
    begin = (k - starts[t]) * _PIECE
    return row, t, row * sizes[t] + begin, min(_PIECE, sizes[t] - begin)


@njit
def _numbers(address, begin, length, like):  # type: ignore[no-untyped-def]
    return carray(_pointer(address + begin * like.itemsize), (length,), like.dtype)


@partial(compiled, reorder=True)
def _square(first, last, starts, sizes, parts, like, out):  # type: ignore[no-untyped-def]
    """Sum the squares of each piece in double precision: the square of a small float32 underflows in single."""
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
    """Compute x_n ← ρ x_n + μ (c_n d_n), and the sum of the squares of each piece, free in a memory-bound loop."""
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
    """Add up the pieces of each row."""
    pieces = len(sums) // max(len(out), 1)
    for row in range(len(out)):
        out[row] += sums[row * pieces : (row + 1) * pieces].sum()


@compiled
def _bound(squares, scale, most, out):  # type: ignore[no-untyped-def]
    most = min(most, np.finfo(out.dtype).max)
    for row in range(len(out)):
        norm = np.sqrt(squares[row])
        out[row] = min(scale / norm, most) if norm > 0 else 0.0


@compiled
def _add_products(first, last, starts, layers, factors, scales):  # type: ignore[no-untyped-def]
    """Compute X_n ← X_n + α c_n U W, some rows of a matrix at a time; each row of `layers` describes a parameter."""
    for piece in range(first, last):
        agent, k = divmod(piece, starts[-1])
        t = np.searchsorted(starts, k, side="right") - 1
        height, width, rank, rows, at, at_agent, left, left_agent, left_row, right, right_agent, right_row = layers[t]
        begin, factor = (k - starts[t]) * rows, scales[t] * factors[agent]
        u = _numbers(left, agent * left_agent, height * left_row, factors)
        w = _numbers(right, agent * right_agent, rank * right_row, factors)
        for i in range(begin, min(begin + rows, height)):
            x = _numbers(at, agent * at_agent + i * width, width, factors)
            place, r = i * left_row, 0
            while r + 1 < rank:  # two at a time, to halve the passes over the row
                a, b = factor * u[place + r], factor * u[place + r + 1]
                wa, wb = w[r * right_row :], w[(r + 1) * right_row :]
                for j in range(width):
                    x[j] += a * wa[j] + b * wb[j]
                r += 2
            if r < rank:
                a, wa = factor * u[place + r], w[r * right_row :]
                for j in range(width):
                    x[j] += a * wa[j]


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _spread(loop: Callable[..., None], pieces: int, *arguments: Any) -> None:
    """Run a loop over all pieces, on as many threads as torch has."""
    threads = min(torch.get_num_threads(), pieces // _SHARE)
    if threads < 2:
        loop(0, pieces, *arguments)
        return
    bounds = [pieces * share // threads for share in range(threads + 1)]
    pool = _pool(threads, getpid())  # a fork does not inherit threads
    deque(pool.map(lambda first, last: loop(first, last, *arguments), bounds, bounds[1:]), 0)


class CompiledMath(RowMath):
    """Compiled loops for contiguous CPU tensors of one type known to NumPy.

    Args:
        agents: Number of agents N.
        dtype: The type.
    """

    def __init__(self, agents: int, dtype: torch.dtype) -> None:
        self._agents = agents
        self._ones = _ones(agents, dtype)

    def table(self, parts: list[Tensor]) -> _Table:
        """Look up the tensors' layout in memory."""
        cut = _cut(self._agents, tuple([part.numel() for part in parts]))
        return _Table(*cut, np.array([part.data_ptr() for part in parts], dtype=np.int64), parts)

    def zeros(self) -> NDArray[np.float64]:
        """Return squares of zero, in double precision."""
        return np.zeros(self._agents)

    def add_squares(self, rows: _Table, squares: NDArray[np.float64]) -> None:
        """Add ‖v_n‖²; see `RowMath.add_squares`."""
        sums = np.empty(rows.pieces)
        _spread(_square, rows.pieces, rows.starts, rows.sizes, rows.addresses, self._ones, sums)
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
        places = own.starts, own.sizes, own.addresses, along.addresses
        _spread(_step, own.pieces, *places, self._ones if factors is None else factors, rate, keep, sums)
        increment_version(own.parts)  # inform autograd
        if squares is not None:
            _gather(sums, squares)


@lru_cache(maxsize=256)
def _ones(agents: int, dtype: torch.dtype) -> NDArray[Any]:
    return torch.ones(agents, dtype=dtype).numpy()


def add_products(
    own: list[Tensor], left: Sequence[Tensor], right: Sequence[Tensor], factors: Tensor, scales: Sequence[float]
) -> None:
    """Add products of low rank in place: X_n ← X_n + α c_n U_n W_n.

    Args:
        own: X, [N, m, ...] of one type, float32 or float64; each X_n is contiguous. If N is 1, its axis may be missing.
        left: U, [N, m, r] of their type, with contiguous rows.
        right: W, [N, r, n] of their type, with contiguous rows.
        factors: c, [N] of their type.
        scales: α of each of them.
    """
    layers, starts = [], [0]
    for x, u, w in zip(own, left, right, strict=True):
        (_, height, _), (_, rank, width) = u.shape, w.shape
        rows = max(1, _PIECE // width)
        starts.append(starts[-1] - -height // rows)
        layers.append((
            height, width, rank, rows, x.data_ptr(), x.stride(0) if len(factors) > 1 else 0,
            u.data_ptr(), *u.stride()[:2], w.data_ptr(), *w.stride()[:2],
        ))  # fmt: skip
    c = factors.numpy()
    _spread(_add_products, len(c) * starts[-1], np.array(starts), np.array(layers), c, np.array(scales, c.dtype))
    increment_version(own)
