"""Messages that are lost in bursts."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.two_states import TwoStates
from basinet.sim.faults.fault import FAULTS, LinkFault, States

__all__ = ["LossBursts"]


@FAULTS.register("bursts")
@dataclass(frozen=True, kw_only=True)
class LossBursts(LinkFault):
    """Each link is good or bad for a while, and fails with a probability e where it is bad (Gilbert–Elliott).

    A good link becomes bad with a probability p, a bad one good with r. The share of lost messages is e p / (p + r),
    and the mean number of them in a row 1 / (1 − (1 − r) e), from which p and r are found here. Links are in the
    stationary state from the first step on.

    Args:
        symmetric: Whether a link fails in both directions at once, so that both of its agents know.
        loss: Share of the steps in which a link fails.
        burst: Mean number of steps in a row in which it does, at least 1 / (1 − loss), which is without memory,
            and at most 10,000.
        within: e, in (0, 1].

    References:
        E. O. Elliott: Estimates of error rates for codes on burst-noise channels, Bell Syst. Tech. J. 42 (1963),
        doi:10.1002/j.1538-7305.1963.tb00955.x.
    """

    loss: Annotated[float, Field(ge=0, lt=1)]
    burst: Annotated[float, Field(ge=1, le=1e4)]
    within: Annotated[float, Field(gt=0, le=1)] = 1.0

    def __post_init__(self) -> None:
        if self.loss >= self.within:
            raise ValueError(f"loss: got {self.loss}; it must be below the loss of a bad link, within: {self.within}")
        longest = 1 / (1 - self.within) if self.within < 1 else None
        if longest is not None and self.burst >= longest:
            raise ValueError(f"burst: got {self.burst}; below 1 / (1 − within) = {longest:.4g} is possible")
        if self._anew > 1 + 1e-12:
            raise ValueError(f"burst: got {self.burst}; at least 1 / (1 − loss) = {1 / (1 - self.loss):.4g} is needed")

    @property
    def _anew(self) -> float:
        """The sum p + r: r from the mean burst, p from the share of bad steps."""
        recovery = 1 - (1 - 1 / self.burst) / self.within
        return recovery / (1 - self.loss / self.within)

    def failures(self, keys: Tensor) -> States:
        """Return a function from the step to which links fail; see `LinkFault.failures`."""
        bad = TwoStates(draws.fold(keys, 0), share=self.loss / self.within, anew=self._anew)
        return lambda step: bad.at(step) & (draws.uniform(draws.fold(draws.fold(keys, 1), step), ()) < self.within)
