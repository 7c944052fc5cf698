"""Exponentially distributed compute time."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from basinet.sim.clock.laws.compute_law import LAWS, Independent

__all__ = ["Exponential"]


@LAWS.register("exponential")
@dataclass(frozen=True, kw_only=True)
class Exponential(Independent):
    """A least time, then an exponentially distributed one: mean · (a + (1 − a) E), E ~ Exp(1).

    Args:
        mean: Mean time of a gradient, with its unit, such as 20 ms.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
        floor: a, the least time as a share of the mean.
    """

    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def quantile(self, u: Tensor) -> Tensor:
        """Return the multiples of the mean below which a share of all draws is."""
        return self.floor - (1 - self.floor) * (-u).log1p()
