"""Messages that are lost independently of each other."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.faults.fault import FAULTS, LinkFault, States

__all__ = ["LinkLoss"]


@FAULTS.register("link_loss")
@dataclass(frozen=True, kw_only=True)
class LinkLoss(LinkFault):
    """Each link fails in each step with a probability p, independently of others and of other steps.

    For symmetric loss and equal weights w on the links of a graph with the Laplacian L, the mean of the mixing matrices
    is E W = I − q w L with q = 1 − p, and E W² = I − 2 q w L + q² w² L² + 2 q (1 − q) w² L.

    Args:
        symmetric: Whether a link fails in both directions at once, so that both of its agents know.
        probability: p, in [0, 1].

    References:
        S. Kar, J. M. F. Moura: Distributed consensus algorithms in sensor networks with imperfect communication: link
        failures and channel noise, IEEE TSP 57 (2009), doi:10.1109/TSP.2008.2007111.
    """

    probability: Annotated[float, Field(ge=0, le=1)]

    def failures(self, keys: Tensor) -> States:
        """Return a function from the step to which links fail; see `LinkFault.failures`."""
        return lambda step: draws.uniform(draws.fold(keys, step), ()) < self.probability
