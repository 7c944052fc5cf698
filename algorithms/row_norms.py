"""Norms of the agents' rows, and steps with one factor per agent: compiled loops on the CPU, torch elsewhere."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RowMath", "has_loops", "inverse_norms", "per_row", "row_math"]

_COMPILED = frozenset({torch.float32, torch.float64})
"""Types with compiled loops."""


class RowMath(ABC):
    """Arithmetic on rows spread over several tensors [N, ...]: row n is all that they hold for agent n.

    If N is 1, the tensors may have any shape. Squares and factors are one number per agent, as tensors or arrays.
    """

    def table(self, parts: list[Tensor]) -> Any:
        """Prepare tensors for the other methods."""
        return parts

    @abstractmethod
    def zeros(self) -> Any:
        """Return squares of zero, in double precision."""

    @abstractmethod
    def add_squares(self, rows: Any, squares: Any) -> None:
        """Add ‖v_n‖² in double precision: the square of a small float32 underflows in single.

        Args:
            rows: v, a table.
            squares: Where to add it.
        """

    @abstractmethod
    def inverse_roots(self, squares: Any, scale: float = 1.0, most: float = math.inf) -> Any:
        """Compute min(a / ‖v_n‖, b) from ‖v_n‖²: a finite number, 0 where the norm is zero.

        Args:
            squares: ‖v_n‖².
            scale: a.
            most: b.

        Returns:
            Factors.
        """

    @abstractmethod
    def step(self, own: Any, along: Any, factors: Any, rate: float, keep: float = 1.0, squares: Any = None) -> None:
        """Step in place: x_n ← ρ x_n + μ c_n d_n.

        Args:
            own: x, a table.
            along: d, a table of tensors of the same shapes.
            factors: c; None for 1.
            rate: μ.
            keep: ρ.
            squares: Where to add ‖x_n‖² of the new rows.
        """


class _TorchMath(RowMath):
    """Torch's operations, on any device and type."""

    def __init__(self, agents: int, dtype: torch.dtype, device: torch.device) -> None:
        self.agents, self.dtype, self.device = agents, dtype, device

    def zeros(self) -> Tensor:
        return torch.zeros(self.agents, dtype=torch.float64, device=self.device)

    def add_squares(self, rows: list[Tensor], squares: Tensor) -> None:
        if all(map(_is_plain, rows)):  # torch takes 25 times as long
            for part in rows:
                loops = _compiled(self.agents, part.dtype)
                loops.add_squares(loops.table([part.contiguous()]), squares.numpy())
        elif self.agents == 1:
            squares += torch.stack(torch._foreach_norm(rows, 2, torch.float64)).square_().sum()
        else:
            for part in rows:
                flat = part.reshape(self.agents, -1)
                squares += torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64).square_()

    def inverse_roots(self, squares: Tensor, scale: float = 1.0, most: float = math.inf) -> Tensor:
        bounded = (scale * squares.rsqrt()).clamp_max_(min(most, torch.finfo(self.dtype).max))
        return torch.where(squares > 0, bounded, 0).to(self.dtype)

    def step(
        self,
        own: list[Tensor],
        along: list[Tensor],
        factors: Tensor | None,
        rate: float,
        keep: float = 1.0,
        squares: Tensor | None = None,
    ) -> None:
        if factors is None and rate == 1 - keep:
            torch._foreach_lerp_(own, along, rate)
        else:
            if keep != 1:
                torch._foreach_mul_(own, keep)
            if factors is None:
                torch._foreach_add_(own, along, alpha=rate)
            else:
                torch._foreach_addcmul_(own, along, per_row(factors, own), rate)
        if squares is not None:
            self.add_squares(own, squares)


def row_math(agents: int, *tensors: Sequence[Tensor]) -> RowMath:
    """Choose the arithmetic for the rows of some tensors.

    Args:
        agents: Number of agents N.
        tensors: All tensors whose rows are computed with together.

    Returns:
        Compiled loops for contiguous tensors on the CPU that are all float32, or all float64; otherwise torch.
    """
    parts = list(itertools.chain(*tensors))
    if has_loops(parts) and all([part.is_contiguous() for part in parts]):
        return _compiled(agents, parts[0].dtype)
    dtype = reduce(torch.promote_types, {part.dtype for part in parts}, torch.float32)
    return _TorchMath(agents, dtype, parts[0].device)


def has_loops(parts: Sequence[Tensor]) -> bool:
    """Return whether compiled loops apply to tensors: all are plain CPU tensors of one type.

    Args:
        parts: The tensors.

    Returns:
        Whether there are.
    """
    dtype = parts[0].dtype
    return all([_is_plain(part) and part.dtype == dtype for part in parts])


def _is_plain(part: Tensor) -> bool:
    # A subclass may wrap data elsewhere, and a negated view holds the opposite numbers.
    return part.is_cpu and part.dtype in _COMPILED and type(part) in (Tensor, nn.Parameter) and not part.is_neg()


def _compiled(agents: int, dtype: torch.dtype) -> RowMath:
    from basinet.algorithms.row_kernels import CompiledMath  # imports numba, which is slow

    return CompiledMath(agents, dtype)


def inverse_norms(parts: Sequence[Tensor]) -> Tensor:
    """Compute 1 / ‖v_n‖ of each row, 0 for a zero row, so that g / ‖g‖ is zero where g is.

    Args:
        parts: Tensors [N, ...]: row n is all that they hold for agent n.

    Returns:
        [N], in the widest type of the parts, at least float32; 0 where a norm is zero.
    """
    rows = row_math(len(parts[0]), parts)
    squares = rows.zeros()
    rows.add_squares(rows.table(list(parts)), squares)
    return torch.as_tensor(rows.inverse_roots(squares))


def per_row(factors: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """Reshape one factor per row so that it broadcasts over the rows of tensors.

    Args:
        factors: [N].
        parts: Tensors [N, ...], or of any shape if N is 1.

    Returns:
        A view for each of them.
    """
    # With as many axes as the tensor: a zero-dimensional factor would take on the tensor's type, which may be short.
    shaped = {d: factors.view([-1] + [1] * (d - 1) if d else []) for d in {part.ndim for part in parts}}
    return [shaped[part.ndim] for part in parts]
