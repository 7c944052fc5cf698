"""The label flip: attackers train on wrong labels."""

from dataclasses import dataclass
from typing import ClassVar

from basinet.algorithms.attacks.attack import ATTACKS, Attack

__all__ = ["LabelFlip"]


@ATTACKS.register("label_flip")
@dataclass(frozen=True, kw_only=True)
class LabelFlip(Attack):
    """Train on wrong labels, y → C − 1 − y for C classes, and send the resulting rows.

    Args:
        agents: The attackers; or give `share`.
        share: Share of the agents that attack.

    References:
        M. Fang, X. Cao, J. Jia, N. Z. Gong: Local model poisoning attacks to Byzantine-robust federated learning,
        USENIX Security 2020, arXiv:1911.11815.
    """

    spoils_labels: ClassVar[bool] = True
