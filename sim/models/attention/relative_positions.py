"""Attention with a learned number for each distance between two places of a grid."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from basinet.sim.models.attention.heads import join_heads, split_heads

__all__ = ["RelativeAttention", "fitted_to_grid", "numbered_distances", "sines_and_cosines", "table_size"]


def table_size(grid: tuple[int, int]) -> int:
    """Count the distances between two places of a grid.

    Args:
        grid: (rows, columns).

    Returns:
        (2 rows − 1) (2 columns − 1).
    """
    return (2 * grid[0] - 1) * (2 * grid[1] - 1)


def sines_and_cosines(grid: tuple[int, int], width: int) -> Tensor:
    """Compute positions whose inner products depend on the distances between places alone.

    Args:
        grid: (rows, columns).
        width: Number of features. Four at a time are the sine and the cosine of row and column times a rate, which
            falls from 1 to almost 1/10,000; up to three that are left are 0.

    Returns:
        [rows · columns, width], on the processor.

    References:
        K. He, X. Chen, S. Xie, Y. Li, P. Dollár, R. Girshick: Masked autoencoders are scalable vision learners, CVPR
        2022, arXiv:2111.06377.
    """
    quarter = width // 4
    rates = 10_000.0 ** (-torch.arange(quarter, device="cpu") / max(1, quarter))
    places = torch.cartesian_prod(*(torch.arange(length, device="cpu") for length in grid))  # [places, 2]
    angles = places[..., None] * rates  # [places, 2, quarter]
    found = torch.cat([angles.sin(), angles.cos()], -1).flatten(1)
    return nn.functional.pad(found, (0, width - 4 * quarter))


def fitted_to_grid(name: str, value: Tensor, grid: tuple[int, int], values: Mapping[str, Tensor]) -> Tensor:
    """Resample what was learned for the places of a square grid, if a model has another grid.

    Positions and tables are interpolated by bicubic convolution, as is usual in fine-tuning at another image size.

    Args:
        name: Name of the parameter.
        value: Its value in another model.
        grid: (rows, columns) of the model.
        values: All values of that model, of which the numbers of places and of distances together tell its grid, up to
            rows and columns that are exchanged.

    Returns:
        Positions [places, width] or a table [distances, heads] for the grid; other values, and those of the same grid,
        as they are.

    Raises:
        ValueError: They are of another grid that is no square, or may be.
    """
    kind = name.rpartition(".")[2]
    if kind not in ("positions", "table") or value.ndim != 2:
        return value
    shape = grid if kind == "positions" else (2 * grid[0] - 1, 2 * grid[1] - 1)
    side, sides = math.isqrt(len(value)), _sides(name.partition(".")[0], values)
    if sides is None and side**2 == len(value) == math.prod(shape) and grid[0] != grid[1]:
        raise ValueError(f"of a grid that is {grid[0]} × {grid[1]} or a square, which no table of distances tells")
    if sides == tuple(sorted(grid)) or (sides is None and (side**2 != len(value) or len(value) == math.prod(shape))):
        return value
    if sides is not None and sides[0] != sides[1]:
        raise ValueError(
            f"of a grid of {sides[0]} × {sides[1]} or {sides[1]} × {sides[0]}; allowed are squares, and"
            f" {grid[0]} × {grid[1]} as in the model"
        )
    square = torch.unflatten(value.mT, 1, (side, side))
    return nn.functional.interpolate(square[None], shape, mode="bicubic", align_corners=False)[0].flatten(1).mT


def _sides(part: str, values: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Find the sides of a grid, the shorter one first, from the sizes of positions and of a table of distances."""
    own = [(name.rpartition(".")[2], value) for name, value in values.items() if name.startswith(f"{part}.")]
    counts = {kind: len(value) for kind, value in own if value.ndim == 2}
    if not counts.keys() >= {"positions", "table"}:
        return None
    places, total = counts["positions"], (4 * counts["positions"] + 1 - counts["table"]) // 2
    shorter = (total - math.isqrt(max(0, total**2 - 4 * places))) // 2
    sides = shorter, total - shorter
    return sides if math.prod(sides) == places and table_size(sides) == counts["table"] else None


def numbered_distances(places: Tensor, grid: tuple[int, int]) -> Tensor:
    """Number the distance between any two places of a grid.

    Args:
        places: Numbers of the places, row by row, int64 [..., n].
        grid: (rows, columns).

    Returns:
        int64 [..., n, n]: (r_i − r_j + rows − 1) (2 columns − 1) + c_i − c_j + columns − 1, for rows r, columns c.

    Example:
        >>> numbered_distances(torch.tensor([0, 3]), (2, 2))
        tensor([[4, 0],
                [8, 4]])
    """
    rows, columns = grid
    row, column = places.div(columns, rounding_mode="floor"), places.remainder(columns)
    down, along = (part.unsqueeze(-1) - part.unsqueeze(-2) for part in (row, column))
    return (down + (rows - 1)) * (2 * columns - 1) + (along + (columns - 1))


class RelativeAttention(nn.Module):
    """softmax(Q Kᵀ / √size + table[distances]) V in each head.

    Args:
        width: Number of features of all heads together.
        heads: Number of heads, a divisor of the width.
        grid: (rows, columns) of the places that tokens may have.
        locality: Strength α ≥ 0 with which heads look at one neighbour each at first, the one to the left, above, to
            the right or below in turn: tables begin with −α times the squared distance to it.

    Raises:
        ValueError: `heads` does not divide `width`.

    References:
        S. d'Ascoli, H. Touvron, M. Leavitt, A. Morcos, G. Biroli, L. Sagun: ConViT: Improving vision transformers with
        soft convolutional inductive biases, ICML 2021, arXiv:2103.10697 (locality).
    """

    def __init__(self, width: int, heads: int, grid: tuple[int, int], locality: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: got {heads}, which does not divide the width {width}")
        self.heads, self.scale = heads, math.sqrt(width // heads)
        self.table = nn.Parameter(torch.empty(table_size(grid), heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        if locality > 0:
            self.table.data -= locality * _from_neighbours(grid, heads).to(self.table.device)
        self.projections, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, distances: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Tokens, [B, n, width].
            distances: Numbers of the distances between them, int64 [n, n] or [B, n, n].

        Returns:
            A tensor of the shape of `x`.
        """
        query, key, value = (split_heads(part, self.heads) for part in self.projections(x).chunk(3, -1))
        near = nn.functional.embedding(distances, self.table)  # [..., n, n, heads]
        # Written out, so that it can be differentiated twice, also with respect to what is added.
        scores = (query / self.scale) @ key.mT + near.transpose(-1, -2).transpose(-2, -3)
        out: Tensor = self.output(join_heads(scores.softmax(-1) @ value))
        return out


_NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Rows and columns from the neighbours on the left, above, on the right and below to a place."""


def _from_neighbours(grid: tuple[int, int], heads: int) -> Tensor:
    """Square the distance between a place's neighbour, of each head, and places at all distances [distances, heads]."""
    distances = torch.cartesian_prod(*(torch.arange(1 - length, length, device="cpu") for length in grid))
    neighbours = torch.tensor([_NEIGHBOURS[head % len(_NEIGHBOURS)] for head in range(heads)], device="cpu")
    return (distances[:, None] - neighbours).square().sum(-1)
