"""The loss along lines and planes: slices, paths, barriers, principal planes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.analysis.curvature.matrices import Curvature

__all__ = ["Plane", "barriers", "line_losses", "path_losses", "plane_losses", "principal_plane"]

Array = NDArray[np.float64]


def line_losses(curvature: Curvature, directions: Tensor, positions: Sequence[float]) -> Array:
    """Evaluate the loss along straight lines through each point.

    Args:
        curvature: Provides the losses, at N points.
        directions: [N, P], or [J, N, P] for J lines through each.
        positions: Multiples of the directions, [C].

    Returns:
        Losses [N, C] or [J, N, C].
    """
    lines = directions.to(curvature.points.dtype).reshape(-1, *curvature.points.shape)
    losses = [[curvature.at(curvature.points + t * line).losses() for t in positions] for line in lines]
    found: Array = torch.stack([torch.stack(row, -1) for row in losses]).cpu().numpy()
    return found.reshape(*directions.shape[:-1], len(positions))


def path_losses(starts: Curvature, ends: Curvature, num_points: int = 11) -> tuple[Array, Array]:
    """Evaluate the loss on the straight paths from one point to another, running statistics included.

    Running statistics are interpolated like the parameters; between batch-normalised networks they are not those that
    the network would have there.

    Args:
        starts: The losses at the starts, N points.
        ends: The losses at the ends, N points of the same objective.
        num_points: Number of points per path, ends included, at least 3.

    Returns:
        Positions from 0 to 1, [num_points], and losses [N, num_points].

    Raises:
        ValueError: If there are fewer than 3 points per path, or the numbers of starts and ends differ.
    """
    if num_points < 3:
        raise ValueError(f"num_points must be at least 3 (both ends and one between), got {num_points}.")
    if starts.num_points != ends.num_points:
        raise ValueError(f"Each start needs one end, got {starts.num_points} starts and {ends.num_points} ends.")
    positions = np.linspace(0, 1, num_points)
    losses = []
    for t in positions:
        buffers = {name: _between(b, ends.buffers[name], t) for name, b in starts.buffers.items()}
        points = _between(starts.points, ends.points, t)
        losses.append(Curvature(starts.objective, points, buffers, rows=starts.rows).losses())
    return positions, torch.stack(losses, 1).cpu().numpy()


def _between(a: Tensor, b: Tensor, t: float) -> Tensor:
    # Exact at both ends.
    if not a.is_floating_point():
        return a if t < 0.5 else b
    return a if t == 0 else b if t == 1 else (1 - t) * a + t * b


def barriers(positions: Array, losses: Array) -> Array:
    r"""Compute the largest rise of the loss on a path above the line between its ends.

    $$
    B = \max_t \; L((1 - t) a + t b) - (1 - t) L(a) - t L(b) .
    $$

    Args:
        positions: Positions t from 0 to 1, [C].
        losses: Losses on the paths, [..., C].

    Returns:
        The barriers, not below 0, [...].

    Example:
        >>> barriers(np.array([0.0, 0.5, 1.0]), np.array([[1.0, 5.0, 3.0], [1.0, 0.0, 1.0]]))
        array([3., 0.])

    References:
        Frankle, Dziugaite, Roy, Carbin: Linear mode connectivity and the lottery ticket hypothesis, ICML 2020,
        arXiv:1912.05671. Entezari, Sedghi, Saukh, Neyshabur: The role of permutation invariance in linear mode
        connectivity of neural networks, ICLR 2022, arXiv:2110.06296, for the line instead of the larger end.
    """
    line = (1 - positions) * losses[..., :1] + positions * losses[..., -1:]
    return np.asarray((losses - line).max(-1))


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane in which some points spread most.

    Attributes:
        origin: Their weighted mean, [P], float64.
        axes: Orthonormal directions of the plane, [2, P].
        coordinates: Each point in the plane, [K, 2].
        explained: Fraction of the variance along each axis, [2].
    """

    origin: Tensor
    axes: Tensor
    coordinates: Tensor
    explained: Tensor


def principal_plane(points: Tensor, weights: Tensor | None = None, origin: Tensor | None = None) -> Plane:
    """Compute the two principal components of points, such as agents about their centroid or steps of a trajectory.

    The components come from the Gram matrix of the points, [K, K]. A random walk in many dimensions has most of its
    variance in two components, too (Antognini, Sohl-Dickstein: PCA of high dimensional random walks with comparison to
    neural network training, NeurIPS 2018, arXiv:1806.08805): `explained` alone proves no structure.

    Args:
        points: [K, P].
        weights: Weights of the points, [K], with sum one; equal by default.
        origin: A point on the plane, [P], such as the last step of a trajectory; by default the mean.

    Returns:
        The plane. If the points span fewer than two directions, the missing axes are zero.
    """
    points = points.to(torch.float64)
    if weights is None:
        weights = points.new_full((len(points),), 1 / len(points))
    weights = weights.to(points)
    origin = weights @ points if origin is None else origin.to(points)
    deltas = points - origin
    scaled = deltas * weights.sqrt()[:, None]
    values, vectors = torch.linalg.eigh(scaled @ scaled.T)
    values, vectors = values.flip(0)[:2].clamp(min=0), vectors.flip(1)[:, :2]
    total = scaled.square().sum()
    there = values > 1e-12 * total
    axes = points.new_zeros(2, points.shape[1])
    axes[: len(values)] = torch.where(there[:, None], (vectors.T @ scaled) / values.sqrt()[:, None], 0.0)
    # Fix the signs: the first point off the origin along an axis lies on its positive side.
    coordinates = deltas @ axes.T
    size = coordinates.abs()
    first = (size > 1e-6 * size.max(0).values).to(torch.int64).argmax(0)
    signs = torch.where(coordinates.gather(0, first[None])[0] < 0, -1.0, 1.0).to(axes)
    explained = points.new_zeros(2)
    explained[: len(values)] = torch.where(total > 0, values / total, 0.0)
    return Plane(origin, axes * signs[:, None], coordinates * signs, explained)


def plane_losses(
    curvature: Curvature, origin: Tensor, axes: Tensor, first: Sequence[float], second: Sequence[float]
) -> Array:
    """Evaluate the loss on a grid in a plane.

    Args:
        curvature: Provides the losses, and the running statistics of its one point.
        origin: Where both coordinates are zero, [P].
        axes: The directions of the coordinates, [2, P].
        first: Values of the first coordinate, [A].
        second: Values of the second coordinate, [B].

    Returns:
        Losses [A, B].
    """
    like = curvature.points

    def loss(x: float, y: float) -> Tensor:
        point = origin + x * axes[0] + y * axes[1]
        return curvature.at(point.to(like).unsqueeze(0)).losses()

    losses: Array = torch.stack([torch.cat([loss(x, y) for y in second]) for x in first]).cpu().numpy()
    return losses
