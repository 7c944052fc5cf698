"""Compute time with a heavy tail."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from basinet.sim.clock.laws.compute_law import LAWS, Independent

__all__ = ["Pareto"]


@LAWS.register("pareto")
@dataclass(frozen=True, kw_only=True)
class Pareto(Independent):
    """A power law, so that a few gradients take very long: P(C > c) = (c₀ / c)^a for c > c₀ = mean · (1 − 1 / a).

    Args:
        mean: Mean time of a gradient, with its unit, such as 20 ms.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
        tail: a; the variance is finite above 2.
    """

    tail: Annotated[float, Field(gt=1)] = 2.5

    def quantile(self, u: Tensor) -> Tensor:
        """Return the multiples of the mean below which a share of all draws is."""
        return (1 - 1 / self.tail) * (1 - u) ** (-1 / self.tail)
