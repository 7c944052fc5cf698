"""The sign flip: attackers send the negative of their rows."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from basinet.algorithms.attacks.attack import ATTACKS, Attack, Messages

__all__ = ["SignFlip"]


@ATTACKS.register("sign_flip")
@dataclass(frozen=True, kw_only=True)
class SignFlip(Attack):
    """Send the own row with opposite sign: m = −s x_l.

    Args:
        agents: The attackers; or give `share`.
        share: Share of the agents that attack.
        scale: s.

    References:
        L. Li, W. Xu, T. Chen, G. B. Giannakis, Q. Ling: RSA: Byzantine-robust stochastic aggregation methods for
        distributed learning from heterogeneous datasets, AAAI 2019, arXiv:1811.03761.
    """

    lies: ClassVar[bool] = True
    scale: Annotated[float, Field(gt=0)] = 1.0

    def messages(self, sent: Messages) -> Tensor:
        """Return what the attackers send."""
        return -self.scale * sent.true
