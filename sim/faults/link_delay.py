"""Messages that arrive late."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.faults.fault import FAULTS, Fault, Numbers

__all__ = ["LinkDelay"]

Steps = Annotated[int, Field(ge=0, le=1000)]


@FAULTS.register("link_delay")
@dataclass(frozen=True, kw_only=True)
class LinkDelay(Fault):
    """Messages are under way for whole steps: agents use the newest that has arrived, x_l as it was some steps ago.

    With d steps, x_k ← W[k, k] x_k(n) + Σ_{l≠k} W[k, l] x_l(n − d): rows sum to one as before. Agents that only mix
    come to agree for any d; with symmetric weights, on the mean of x_k(0) weighted by 1 + d (1 − W[k, k]). The first
    message along each link is on time. The steps of several such faults add up.

    Args:
        steps: How many steps a message takes, at most if there is a `least`.
        least: The fewest steps, where each message takes a number of its own between the two, all as likely, so that
            one may overtake another; None for as many as `steps`.

    References:
        A. Nedić, A. Ozdaglar: Convergence rate for consensus with delays, J. Glob. Optim. 47 (2010),
        doi:10.1007/s10898-008-9370-2.
    """

    steps: Steps
    least: Steps | None = None

    def __post_init__(self) -> None:
        if self.least is not None and self.least > self.steps:
            raise ValueError(f"least: got {self.least}; at most steps: {self.steps} can be")

    def delays(self, keys: Tensor) -> Numbers:
        """Return a function from the step in which messages are sent to how many steps they take.

        Args:
            keys: Keys of the links, int64 [R, E].

        Returns:
            The function, whose results are int64 [R, E].
        """
        least = self.steps if self.least is None else self.least
        return lambda step: least + draws.integers(draws.fold(keys, step), self.steps - least + 1, ())
