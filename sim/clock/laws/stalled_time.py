"""Compute times that faults prolong."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from basinet.sim.clock.laws.compute_law import ComputeLaw, Draw
from basinet.sim.faults import Fault, Stalls

__all__ = ["Stalled", "stalled"]


@dataclass(frozen=True)
class Stalled(ComputeLaw):
    """The times of another law, and of stalls.

    Args:
        law: The law.
        stalls: The stalls.
    """

    law: ComputeLaw
    stalls: tuple[Stalls, ...]

    def sampler(self, keys: Tensor) -> Draw:
        """Return a function from the step to how long agents compute; see `ComputeLaw.sampler`."""
        times, *added = self.law.sampler(keys), *(stall.added(keys) for stall in self.stalls)
        return lambda step: sum((more(step) for more in added), times(step))


def stalled(law: ComputeLaw, faults: Iterable[Fault]) -> ComputeLaw:
    """Prolong the times of a law by those faults that are stalls.

    Args:
        law: The law.
        faults: What goes wrong.

    Returns:
        The law itself if nothing stalls.
    """
    stalls = tuple(fault for fault in faults if isinstance(fault, Stalls))
    return Stalled(law, stalls) if stalls else law
