"""Constant compute time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from basinet.sim.clock.laws.compute_law import LAWS, Independent

__all__ = ["Constant"]


@LAWS.register("constant")
@dataclass(frozen=True, kw_only=True)
class Constant(Independent):
    """Every gradient takes as long.

    Args:
        mean: Time of a gradient, with its unit, such as 20 ms.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.

    Example:
        >>> Constant(mean="20 ms", factors=(1, 1.5)).sampler(torch.zeros(1, 4, dtype=torch.int64))(0).tolist()
        [[20000000.0, 30000000.0, 20000000.0, 30000000.0]]
    """

    def quantile(self, u: Tensor) -> Tensor:
        """Return the multiples of the mean below which a share of all draws is."""
        return torch.ones_like(u)
