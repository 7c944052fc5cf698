"""Lognormally distributed compute time."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from basinet.sim.clock.laws.compute_law import LAWS, Independent

__all__ = ["Lognormal"]


@LAWS.register("lognormal")
@dataclass(frozen=True, kw_only=True)
class Lognormal(Independent):
    """The logarithm is normal: mean · exp(σ z − σ² / 2), z ~ N(0, 1).

    Args:
        mean: Mean time of a gradient, with its unit, such as 20 ms.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
        sigma: σ, standard deviation of the logarithm.
    """

    sigma: Annotated[float, Field(gt=0, le=5)] = 0.3

    def quantile(self, u: Tensor) -> Tensor:
        """Return the multiples of the mean below which a share of all draws is."""
        z: Tensor = torch.special.ndtri(u)
        return (self.sigma * z - self.sigma**2 / 2).exp()
