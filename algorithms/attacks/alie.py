"""ALIE: attackers hide in the spread of the honest rows."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms.attacks.attack import ATTACKS, Attack, Messages

__all__ = ["ALIE"]


@ATTACKS.register("alie")
@dataclass(frozen=True, kw_only=True)
class ALIE(Attack):
    """A little is enough: hide in the spread of the receiver's honest rows, m = mean − z · deviation.

    Mean and deviation are coordinate-wise over the receiver and its honest neighbours. By default z is the paper's:
    with n agents in the neighbourhood and m attackers among them, Φ(z) = (n − m − s) / (n − m), s = ⌊n / 2 + 1⌋ − m,
    and no less than 0.

    Args:
        agents: The attackers; or give `share`.
        share: Share of the agents that attack.
        z: Number of deviations from the mean.

    References:
        M. Baruch, G. Baruch, Y. Goldberg: A little is enough: circumventing defenses for distributed learning, NeurIPS
        2019, arXiv:1902.06156.
    """

    lies: ClassVar[bool] = True
    z: Annotated[float, Field(gt=0)] | None = None

    def messages(self, sent: Messages) -> Tensor:
        """Return what the attackers send."""
        honest = 1 + sent.honest.sum(1)
        # Moments about the receiver's own row: moments about zero would cancel.
        first = sent.told[:, :1]
        spread = (sent.heard - first).masked_fill_(~sent.honest[..., None], 0)
        own, count = sent.receivers - first[sent.rows, 0], honest[sent.rows, None]
        mean = (spread.sum(1)[sent.rows] + own) / count
        squares = spread.square().sum(1)[sent.rows] + own.square() - count * mean.square()
        deviation = (squares / (count - 1).clamp_min(1)).clamp_min(0).sqrt()
        return first[sent.rows, 0] + mean - self._deviations(honest, sent)[sent.rows, None] * deviation

    def _deviations(self, honest: Tensor, sent: Messages) -> Tensor:
        """Compute z of each receiver, [N]."""
        if self.z is not None:
            return sent.weights.new_full((len(honest),), self.z)
        attackers = torch.zeros_like(honest).index_add_(0, sent.rows, torch.ones_like(sent.rows))
        supporters = (honest + attackers) // 2 + 1 - attackers
        share = (honest - supporters.clamp_min(1)).double() / honest
        z: Tensor = torch.special.ndtri(share.clamp_min(0.5))
        return z.to(sent.weights)
