"""PowerGossip: diffusion along few directions of the difference between two neighbours."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.compressors.low_rank import as_matrix, orthonormal
from basinet.algorithms.strategies.strategy import STRATEGIES, Block, require_symmetric
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["PowerGossip"]


@STRATEGIES.register("powergossip")
@dataclass(frozen=True)
class PowerGossip:
    """Adapt, then move towards each neighbour along the few directions in which they differ most (low rank).

    For each layer, a matrix X_k, the two ends of an edge share orthonormal directions V, and agent k moves by W[k, l]
    (X_l − X_k) V Vᵀ. Only X V is sent, in both directions. The difference (X_l − X_k) V, orthonormalised, gives the
    next shared directions, for the other side of the matrix, U Uᵀ (X_l − X_k), and so on in turn: a power iteration
    that continues across rounds and steps, and needs no consensus step γ. Layers that are not matrices, or of no larger
    rank, are sent whole, once per step. With the full rank it is diffusion (ATC).

    Args:
        rank: Number of directions.
        rounds: Rounds of power iteration per step, each of which moves the agents.

    References:
        T. Vogels, S. P. Karimireddy, M. Jaggi: Practical low-rank communication compression in decentralized deep
        learning, NeurIPS 2020, arXiv:2008.01425.
    """

    rank: Annotated[int, Field(ge=1)] = 1
    rounds: Annotated[int, Field(ge=1, le=1000)] = 4

    # Directions belong to edges.
    traits: ClassVar[StrategyTraits] = StrategyTraits(static=True, mixes_all=True, combines_x=False, tolerates="none")

    def check(self, weights: csr_array) -> None:
        """Raise if the two ends of an edge have different weights.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_symmetric(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        block.adapt(block.gradients())
        if self._matrices(block):
            if "directions" not in block.memory:
                self._meet(block)
            for iteration in range(block.step * self.rounds, (block.step + 1) * self.rounds):
                self._move(block, transposed=iteration % 2 == 1)
        self._combine_the_rest(block)

    def _matrix(self, layer: Tensor) -> Tensor | None:
        """View a layer [N, *shape] as matrices [N, m, n], if low rank shortens them."""
        matrix = as_matrix(layer)
        return None if matrix is None or self.rank >= min(matrix.shape[1:]) else matrix

    def _matrices(self, block: Block) -> list[Tensor]:
        return [matrix for layer in block.layers(block.x) if (matrix := self._matrix(layer)) is not None]

    def _meet(self, block: Block) -> None:
        """Exchange keys along each edge, from which both ends draw the same directions and tell their sides."""
        mine = block.keys("directions")[:, None].expand_as(block.neighbors.heard)
        theirs = block.exchange(mine[:, :, None])[:, :, 0]
        columns = sum(matrix.shape[2] for matrix in self._matrices(block))
        block.memory["directions"] = draws.normal(mine + theirs, (columns * self.rank,), dtype=block.x.dtype)
        block.memory["side"] = torch.where(mine > theirs, 1, -1).to(block.x.dtype)

    def _move(self, block: Block, *, transposed: bool) -> None:
        """Move along the directions shared with each neighbour: X_k ← X_k + Σ_l W[k, l] (X_l − X_k) V Vᵀ."""
        matrices = [matrix.mT if transposed else matrix for matrix in self._matrices(block)]
        shared = torch.split(block.memory["directions"], [matrix.shape[2] * self.rank for matrix in matrices], dim=2)
        directions = [orthonormal(v.view(*v.shape[:2], v.shape[2] // self.rank, self.rank)) for v in shared]
        products = [(matrix[:, None] @ v).flatten(2) for matrix, v in zip(matrices, directions, strict=True)]
        told = torch.cat(products, dim=2)
        differences = block.exchange(told).sub_(told)
        # With the same sign at both ends, so that they continue with the same numbers.
        block.memory["directions"] = block.memory["side"][:, :, None] * differences
        differences.mul_(block.neighbors.weights[:, :, None])
        parts = torch.split(differences, [product.shape[2] for product in products], dim=2)
        for matrix, v, part in zip(matrices, directions, parts, strict=True):
            matrix.add_((part.view(*part.shape[:2], part.shape[2] // self.rank, self.rank) @ v.mT).sum(1))

    def _combine_the_rest(self, block: Block) -> None:
        layers = [layer for layer in block.layers(block.x) if self._matrix(layer) is None]
        if layers:
            rest = torch.cat([layer.flatten(1) for layer in layers], dim=1)
            block.combine(rest)
            parts = torch.split(rest, [layer[0].numel() for layer in layers], dim=1)
            for layer, mixed in zip(layers, parts, strict=True):
                layer.copy_(mixed.view(layer.shape))
