"""Interface of the faults of a simulated network."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from basinet.topologies.registry import Registry

__all__ = ["FAULTS", "Fault", "LinkFault", "States"]

States = Callable[[int], Tensor]
"""Function of the step, from 0, to what is out of order: a bool tensor. It does not depend on earlier calls."""


class Fault:
    """Something that goes wrong in the simulated network."""


@dataclass(frozen=True, kw_only=True)
class LinkFault(Fault, ABC):
    """Links that fail for single steps: what is sent along them in such a step does not arrive.

    Args:
        symmetric: Whether a link fails in both directions at once, so that both of its agents know.
    """

    symmetric: bool = True

    @abstractmethod
    def failures(self, keys: Tensor) -> States:
        """Return a function from the step to which links fail.

        Args:
            keys: Keys of the links, int64 [R, E]; both directions of a link have the same if the fault is symmetric.

        Returns:
            The function, whose results are [R, E].
        """


FAULTS: Registry[Fault] = Registry("FAULTS")
"""The faults that an experiment can name."""
