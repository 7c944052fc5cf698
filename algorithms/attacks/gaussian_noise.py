"""Gaussian noise on what attackers send."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.attacks.attack import ATTACKS, Attack, Messages

__all__ = ["GaussianNoise"]


@ATTACKS.register("gaussian")
@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Attack):
    """Add noise to the own row, the same for all receivers: m = x_l + σ n, n ~ N(0, I).

    Args:
        agents: The attackers; or give `share`.
        share: Share of the agents that attack.
        deviation: σ.
    """

    lies: ClassVar[bool] = True
    deviation: Annotated[float, Field(gt=0)] = 1.0

    def messages(self, sent: Messages) -> Tensor:
        """Return what the attackers send."""
        noise = draws.normal(draws.fold(sent.keys[:, None], sent.columns), ())
        return sent.true + self.deviation * noise.to(sent.true)
