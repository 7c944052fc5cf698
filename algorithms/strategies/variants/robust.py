"""Robust diffusion: adapt, then combine by a rule that limits the influence of Byzantine neighbours."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms.aggregation import CLIPPED, COORDINATEWISE, PAIRWISE, Neighborhood
from basinet.algorithms.strategies.strategy import STRATEGIES, Block, Neighbors
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["Robust"]

_FARTHEST = 1e60
"""Largest squared distance, which also stands for rows that are not finite."""

Number = Annotated[int, Field(ge=0, strict=True)]
Share = Annotated[float, Field(ge=0, lt=0.5)]


@STRATEGIES.register("robust")
@dataclass(frozen=True)
class Robust:
    """Adapt, then combine by a robust rule: x_k ← F(φ_k; φ_l of the neighbours l), φ = adapt(x, g(x)).

    The rules and their papers are in `basinet.algorithms.aggregation`. Self-centred clipping and IOS use the mixing
    weights; the others only the neighbourhoods.

    Args:
        rule: "median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "centered_clipping",
            "self_centered_clipping" (ClippedGossip) or "ios".
        tolerated: f, attackers tolerated among the neighbours of an agent: a number, or a share of the neighbours,
            rounded up.
        radius: τ of the clipping rules; self-centred clipping without one adapts it to the distances.

    References:
        L. He, S. P. Karimireddy, M. Jaggi: Byzantine-robust decentralized learning via ClippedGossip, 2022,
        arXiv:2202.01545, for the default rule.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(mixes_all=True, combines_x=False)
    rule: Literal[
        "median",
        "trimmed_mean",
        "krum",
        "multi_krum",
        "geometric_median",
        "centered_clipping",
        "self_centered_clipping",
        "ios",
    ] = "self_centered_clipping"
    tolerated: Number | Share = 0.25
    radius: Annotated[float, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        if self.rule == "centered_clipping" and self.radius is None:
            raise ValueError("centered_clipping needs a radius, such as 1.0")
        if self.rule not in CLIPPED and self.radius is not None:
            raise ValueError(f"radius is for the rules that clip ({', '.join(CLIPPED)}), not for {self.rule}")

    def check(self, weights: csr_array) -> None:
        """Raise if a neighbourhood is too small for the number of attackers.

        Args:
            weights: Mixing matrix [K, K].

        Raises:
            ValueError: One is too small.
        """
        neighbors = np.asarray((weights != 0).sum(axis=1)).ravel() - (weights.diagonal() != 0)
        f = self.attackers_among(torch.from_numpy(neighbors)).numpy()
        least = 2 * f + {"trimmed_mean": 1 + (f > 0), "krum": 3, "multi_krum": 3}.get(self.rule, 1)
        agent = int((neighbors + 1 - least).argmin())
        if neighbors[agent] + 1 < least[agent]:
            raise ValueError(
                f"by the rule {self.rule} tolerates {f[agent]} among the neighbours of an agent where it and they are"
                f" {least[agent]} or more, and agent {agent} has {neighbors[agent]} neighbours"
            )

    def attackers_among(self, neighbors: Tensor) -> Tensor:
        """Compute the number f of attackers that are tolerated.

        Args:
            neighbors: Number of neighbours of each agent, int64 [N].

        Returns:
            int64 [N].
        """
        if isinstance(self.tolerated, int):
            return torch.full_like(neighbors, self.tolerated)
        return (self.tolerated * neighbors.double() - 1e-9).ceil().long()  # so that rounding adds no attacker

    def _neighborhood(self, neighbors: Neighbors) -> Neighborhood:
        heard = neighbors.heard
        number = heard.sum(1)
        return Neighborhood(
            members=torch.cat([heard.new_ones(len(heard), 1), heard], 1),
            weights=torch.cat([neighbors.own[:, None], neighbors.weights], 1).double(),
            # `check` has seen to half of the neighbours, but messages may be lost.
            tolerated=self.attackers_among(number).minimum(number // 2),
            most=self.tolerated if isinstance(self.tolerated, int) else math.ceil(self.tolerated * heard.shape[1]),
        )

    def step(self, block: Block) -> None:
        """Advance by one step."""
        before = block.x.clone() if self.rule == "centered_clipping" else None
        block.adapt(block.gradients())
        x = block.x
        center = x if before is None else before
        hood = self._neighborhood(block.neighbors)
        heard = block.broadcast(x)

        def values() -> Iterator[tuple[slice, Tensor]]:
            return ((columns, torch.cat([x[:, None, columns], rows], 1)) for columns, rows in heard)

        if self.rule in COORDINATEWISE:
            for columns, v in values():
                x[:, columns] = COORDINATEWISE[self.rule](v, hood)
        elif self.rule in PAIRWISE:
            squares = reduce(torch.add, (_squares(v, v) for _, v in values()))
            _average(x, values(), x, PAIRWISE[self.rule](squares, hood))
        else:
            squares = reduce(torch.add, (_squares(center[:, None, columns], v) for columns, v in values()))
            _average(x, values(), center, CLIPPED[self.rule](squares[:, 0], hood, self.radius))


def _average(x: Tensor, values: Iterator[tuple[slice, Tensor]], center: Tensor, a: Tensor) -> None:
    """Write v + Σ_l a_l (v_l − v) into x: by differences, so that agents that agree stay exactly as they are."""
    for columns, v in values:
        differences = v - center[:, None, columns]
        x[:, columns] = center[:, columns] + torch.einsum("nd,ndp->np", a.to(x), differences)


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Compute ‖a_i − b_j‖² of each agent's rows, float64 [N, I, J], from differences: a Gram matrix would cancel."""
    squares: Tensor = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").double().square()
    return squares.clamp_max(_FARTHEST)
