"""Subspaces of matrices: projection of gradients, and their choice by the gradient or at random.

All functions take stacks of wide matrices [N, s, l], s ≤ l.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from basinet.algorithms import draws

__all__ = ["LowRank", "Sparse", "Subspace", "as_matrices", "as_stack"]


def as_matrices(stack: Tensor) -> Tensor:
    """View each member of a stack as a wide matrix; a convolution's rows are its output channels.

    Args:
        stack: [N, m, ...], at least three axes.

    Returns:
        [N, s, l] with s ≤ l, a view where memory allows.

    Example:
        >>> as_matrices(torch.zeros(2, 8, 3)).shape, as_matrices(torch.zeros(2, 8, 3, 3, 3)).shape
        (torch.Size([2, 3, 8]), torch.Size([2, 8, 27]))
    """
    matrices = stack.flatten(2)
    return matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT


def as_stack(matrices: Tensor, like: Tensor) -> Tensor:
    """Undo `as_matrices`.

    Args:
        matrices: [N, s, l].
        like: A stack of the members' shape, [N, m, ...].

    Returns:
        [N, m, ...].
    """
    upright = matrices if matrices.shape[1] == like.shape[1] else matrices.mT
    return upright.reshape(like.shape)


@dataclass(frozen=True)
class Subspace(ABC):
    """A family of subspaces of the matrices s × l, each of rank · l dimensions.

    Args:
        rank: r, below s.
    """

    rank: int

    @abstractmethod
    def follow(self, gradients: Tensor) -> Tensor:
        """Choose the subspaces that keep the most of some gradients.

        Args:
            gradients: [N, s, l].

        Returns:
            Their bases, [N, ...].
        """

    @abstractmethod
    def draw(self, keys: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Draw random subspaces without preferred directions: E P Pᵀ = (r / s) I.

        Args:
            keys: int64 [N].
            shape: (s, l).
            dtype: Type of the matrices.

        Returns:
            Their bases, [N, ...]; equal keys give equal bases.
        """

    @abstractmethod
    def project(self, matrices: Tensor, basis: Tensor) -> Tensor:
        """Compute the coordinates of matrices projected on the subspaces.

        Args:
            matrices: [N, s, l].
            basis: The bases.

        Returns:
            [N, ...], rank · l numbers each.
        """

    @abstractmethod
    def lift(self, coordinates: Tensor, basis: Tensor, shape: tuple[int, int]) -> Tensor:
        """Compute the matrices with given coordinates.

        Args:
            coordinates: As `project` returns them, or flat, [N, rank · l].
            basis: The bases.
            shape: (s, l).

        Returns:
            [N, s, l].
        """

    def add_lifted(self, matrices: Tensor, coordinates: Tensor, basis: Tensor, factor: float) -> None:
        """Add the lifted coordinates, times a factor, to matrices in place.

        Args:
            matrices: [N, s, l].
            coordinates: As `project` returns them.
            basis: The bases.
            factor: The factor.
        """
        matrices.add_(self.lift(coordinates, basis, (matrices.shape[1], matrices.shape[2])), alpha=factor)

    @abstractmethod
    def carry(self, coordinates: Tensor, old: Tensor, new: Tensor, shape: tuple[int, int]) -> Tensor:
        """Project from one subspace to another: return coordinates in `new` for those in `old`.

        Args:
            coordinates: As `project` returns them.
            old: The bases they are of.
            new: The bases wanted.
            shape: (s, l).

        Returns:
            Coordinates.
        """


class LowRank(Subspace):
    """P R with an orthonormal P [s, r]: the coordinates of G are R = Pᵀ G [r, l]."""

    def follow(self, gradients: Tensor) -> Tensor:
        """Take the first r left singular vectors."""
        # The decomposition rejects non-finite input; divergence shows in the parameters instead.
        finite = _computable(gradients).nan_to_num(0.0, 0.0, 0.0)
        u: Tensor = torch.linalg.svd(finite, full_matrices=False).U
        return u[..., : self.rank].to(gradients.dtype, copy=True)

    def draw(self, keys: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Draw uniformly from the Stiefel manifold: Q of a normal matrix's Q R, with a positive diagonal of R."""
        q, r = torch.linalg.qr(draws.normal(keys, (shape[0], self.rank)))
        haar: Tensor = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
        return haar.to(dtype)

    def project(self, matrices: Tensor, basis: Tensor) -> Tensor:
        """Compute Pᵀ G."""
        return torch.bmm(basis.mT, matrices)

    def lift(self, coordinates: Tensor, basis: Tensor, shape: tuple[int, int]) -> Tensor:
        """Compute P R."""
        return torch.bmm(basis, coordinates.reshape(len(basis), self.rank, shape[1]))

    def add_lifted(self, matrices: Tensor, coordinates: Tensor, basis: Tensor, factor: float) -> None:
        """Add P R without materialising it."""
        matrices.baddbmm_(basis, coordinates, alpha=factor)

    def carry(self, coordinates: Tensor, old: Tensor, new: Tensor, shape: tuple[int, int]) -> Tensor:
        """Compute (P_newᵀ P_old) R."""
        return torch.bmm(torch.bmm(new.mT, old), coordinates)


class Sparse(Subspace):
    """Matrices that are zero except for rank · l entries: a basis is their positions, int64 [rank · l]."""

    def follow(self, gradients: Tensor) -> Tensor:
        """Take the entries of largest magnitude."""
        return gradients.flatten(1).abs().topk(self.rank * gradients.shape[2], dim=1, sorted=False).indices

    def draw(self, keys: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Draw uniformly from all sets of this many entries."""
        return draws.uniform(keys, (math.prod(shape),)).topk(self.rank * shape[1], dim=1, sorted=False).indices

    def project(self, matrices: Tensor, basis: Tensor) -> Tensor:
        """Pick the entries."""
        return matrices.flatten(1).gather(1, basis)

    def lift(self, coordinates: Tensor, basis: Tensor, shape: tuple[int, int]) -> Tensor:
        """Put the entries in their positions."""
        matrices = coordinates.new_zeros(len(coordinates), *shape)
        matrices.flatten(1).scatter_(1, basis, coordinates)
        return matrices

    def carry(self, coordinates: Tensor, old: Tensor, new: Tensor, shape: tuple[int, int]) -> Tensor:
        """Keep the entries that are in both."""
        return self.project(self.lift(coordinates, old, shape), new)


def _computable(x: Tensor) -> Tensor:
    """Widen types without decompositions."""
    return x if x.dtype == torch.float64 else x.float()
