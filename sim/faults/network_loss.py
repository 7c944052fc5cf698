"""Messages that are lost as the description of the network says."""

from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.faults.fault import FAULTS, LinkFault, States

__all__ = ["NetworkLoss"]


@FAULTS.register("network_loss")
@dataclass(frozen=True, kw_only=True)
class NetworkLoss(LinkFault):
    """Each link fails in each step with the probability that the network gives as its `loss`, independently of others.

    Args:
        symmetric: Whether a link fails in both directions at once, with the larger loss of the two.
    """

    _loss: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def on(self, loss: Tensor) -> Self:
        """Return the fault on links of which the network loses some shares; see `LinkFault.on`."""
        bound = replace(self)
        object.__setattr__(bound, "_loss", loss)
        return bound

    def failures(self, keys: Tensor) -> States:
        """Return a function from the step to which links fail; see `LinkFault.failures`."""
        assert self._loss is not None, "its links are not known"
        loss = self._loss
        return lambda step: draws.uniform(draws.fold(keys, step), ()) < loss
