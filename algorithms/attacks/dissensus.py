"""Dissensus: attackers undo what averaging gains."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms.attacks.attack import ATTACKS, Attack, Messages

__all__ = ["Dissensus"]


@ATTACKS.register("dissensus")
@dataclass(frozen=True, kw_only=True)
class Dissensus(Attack):
    """Undo what a receiver would gain from its honest neighbours.

    m = x_k − ε Σ_{l ∈ H} W[k, l] (x_l − x_k) / Σ_{l ∈ B} W[k, l] to agent k with honest neighbours H and attackers B.
    With ε = 1, averaging leaves the receiver where it is; with more, it moves away from its neighbours. Each receiver
    gets its own message.

    Args:
        agents: The attackers; or give `share`.
        share: Share of the agents that attack.
        epsilon: ε.

    References:
        L. He, S. P. Karimireddy, M. Jaggi: Byzantine-robust decentralized learning via ClippedGossip, 2022,
        arXiv:2202.01545.
    """

    lies: ClassVar[bool] = True
    epsilon: Annotated[float, Field(gt=0)] = 1.5

    def messages(self, sent: Messages) -> Tensor:
        """Return what the attackers send."""
        gain = torch.einsum("nd,ndp->np", sent.weights * sent.honest, sent.heard - sent.told)
        weight = sent.weights.new_zeros(len(gain)).index_add_(0, sent.rows, sent.weights[sent.rows, sent.slots])
        return sent.receivers - self.epsilon * gain[sent.rows] / weight[sent.rows, None]
