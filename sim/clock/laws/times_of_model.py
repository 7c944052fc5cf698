"""Compute times that follow from the model: from its operations, or from a measurement."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field
from torch import Tensor

from basinet.sim.clock.laws.compute_law import LAWS, ComputeLaw, Draw
from basinet.sim.clock.laws.constant_time import Constant
from basinet.sim.clock.laws.lognormal_time import Lognormal
from basinet.topologies.networks.units import speed

__all__ = ["Flops", "Measured", "OfModel"]


def _with_unit(given: str) -> str:
    speed(given)
    return given


@dataclass(frozen=True, kw_only=True)
class OfModel(ComputeLaw):
    """A law whose mean follows from the model, with a factor for each agent; constant, or lognormal.

    Args:
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
        sigma: Standard deviation of the logarithm; 0 for equal times.
    """

    factors: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (1.0,)
    sigma: Annotated[float, Field(ge=0, le=5)] = 0.0

    @property
    @abstractmethod
    def mean(self) -> float:
        """Seconds that a gradient of a batch takes on average."""

    def sampler(self, keys: Tensor) -> Draw:
        """Return a function from the step to how long agents compute; see `ComputeLaw.sampler`."""
        mean = f"{self.mean:.17g} s"
        law = Lognormal(mean=mean, factors=self.factors, sigma=self.sigma) if self.sigma else None
        return (law or Constant(mean=mean, factors=self.factors)).sampler(keys)


@LAWS.register("flops")
@dataclass(frozen=True, kw_only=True)
class Flops(OfModel):
    """What the products of matrices and convolutions of a gradient take at a speed: operations / (speed · utilisation).

    Counted are two operations for each multiplication and addition, forwards and backwards, of an agent's batch.

    Args:
        flops: Operations of a gradient.
        rate: Speed of an agent's processor, such as 20 TFLOP/s.
        utilisation: Share of it that is reached, in (0, 1].
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
        sigma: Standard deviation of the logarithm; 0 for equal times.
    """

    flops: float
    rate: Annotated[str, BeforeValidator(_with_unit)]
    utilisation: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def mean(self) -> float:
        """Seconds that a gradient of a batch takes on average."""
        return self.flops / (speed(self.rate) * self.utilisation)


@LAWS.register("measured")
@dataclass(frozen=True, kw_only=True)
class Measured(OfModel):
    """What a gradient of an agent's batch takes on the machine that leads the run, measured before it begins.

    A run records it: when it goes on, on whichever machine, or when it is timed anew, the time stays the same.

    Args:
        seconds: Seconds that were measured.
        factors: How many times longer each agent takes, in the graph's order; a shorter list is repeated.
        sigma: Standard deviation of the logarithm; 0 for equal times.
    """

    seconds: float

    @property
    def mean(self) -> float:
        """Seconds that a gradient of a batch takes on average."""
        return self.seconds
