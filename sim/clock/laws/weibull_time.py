"""Weibull-distributed compute time."""

from dataclasses import dataclass
from math import gamma
from typing import Annotated

from pydantic import Field
from torch import Tensor

from basinet.sim.clock.laws.compute_law import LAWS, Independent

__all__ = ["Weibull"]


@LAWS.register("weibull")
@dataclass(frozen=True, kw_only=True)
class Weibull(Independent):
    """A power of an exponentially distributed time: mean · E^(1 / c) / Γ(1 + 1 / c), E ~ Exp(1).

    Args:
        mean: Mean time of a gradient, with its unit, such as 20 ms.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
        shape: c; the tail is heavier than the exponential law's below 1, lighter above.
    """

    shape: Annotated[float, Field(ge=0.1, le=100)] = 2.0

    def quantile(self, u: Tensor) -> Tensor:
        """Return the multiples of the mean below which a share of all draws is."""
        return (-(-u).log1p()) ** (1 / self.shape) / gamma(1 + 1 / self.shape)
