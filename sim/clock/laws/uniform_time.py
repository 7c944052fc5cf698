"""Uniformly distributed compute time."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from basinet.sim.clock.laws.compute_law import LAWS, Independent

__all__ = ["Uniform"]


@LAWS.register("uniform")
@dataclass(frozen=True, kw_only=True)
class Uniform(Independent):
    """Uniform on mean · [1 − w, 1 + w].

    Args:
        mean: Mean time of a gradient, with its unit, such as 20 ms.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
        width: w, half the width as a share of the mean.
    """

    width: Annotated[float, Field(gt=0, le=1)] = 1.0

    def quantile(self, u: Tensor) -> Tensor:
        """Return the multiples of the mean below which a share of all draws is."""
        return 1 + self.width * (2 * u - 1)
