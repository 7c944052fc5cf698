"""Attacks: what agents do that mean to spoil the training of the others, the honest ones.

An attacker takes part as told (it draws batches, adapts, combines), but lies: what it tells an honest agent is the
attack's message in the place of its own row, or its data are spoilt. Attackers tell each other the truth, and know what
the honest neighbours of an agent tell it. What an optimizer remembers, where it is mixed as well, is told truly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws

__all__ = ["ALIE", "ATTACKS", "Attack", "Dissensus", "GaussianNoise", "LabelFlip", "Messages", "NoAttack", "SignFlip"]


@dataclass(frozen=True)
class Messages:
    """Some columns of what goes between the agents of a block, and E messages in it that an attacker sends.

    Attributes:
        told: What each agent tells the neighbour in each slot, [N, D, w].
        heard: What it would hear from it if nobody lied, [N, D, w]; 0 where it hears nobody.
        honest: Whether it hears the neighbour, and that one is honest, bool [N, D].
        weights: The weights that it gives to its neighbours, [N, D].
        rows: Receivers of the attackers' messages, int64 [E].
        slots: The attackers' slots there, int64 [E].
        keys: A key of each sender and message for random draws, int64 [E].
        columns: Places of the columns in the whole row, int64 [w].
    """

    told: Tensor
    heard: Tensor
    honest: Tensor
    weights: Tensor
    rows: Tensor
    slots: Tensor
    keys: Tensor
    columns: Tensor

    @property
    def true(self) -> Tensor:
        """What the attackers would say if they were honest, [E, w]."""
        return self.heard[self.rows, self.slots]

    @property
    def receivers(self) -> Tensor:
        """What the receivers tell the attackers: their own rows, [E, w]."""
        return self.told[self.rows, self.slots]


@dataclass(frozen=True)
class NoAttack:
    """Nobody attacks."""

    lies: ClassVar[bool] = False
    spoils_labels: ClassVar[bool] = False

    def attackers(self, num_agents: int, seed: int, replica: int) -> np.ndarray:
        """Say which agents attack.

        Args:
            num_agents: K.
            seed: The experiment's seed.
            replica: The replica.

        Returns:
            bool [K].
        """
        return np.zeros(num_agents, dtype=bool)

    def messages(self, sent: Messages) -> Tensor:
        """Say what the attackers send.

        Args:
            sent: What would be sent if nobody lied.

        Returns:
            [E, w].
        """
        return sent.true


@dataclass(frozen=True, kw_only=True)
class Attack(NoAttack):
    """An attack by given agents, the same in all replicas, or by a share that each replica draws for itself.

    Args:
        agents: The attackers, in the graph's order from 0 on; or give `share`.
        share: Share of the agents that attack, to the nearest number of agents.
    """

    agents: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = ()
    share: Annotated[float, Field(gt=0, lt=1)] | None = None

    def __post_init__(self) -> None:
        if (self.share is None) == (not self.agents):
            raise ValueError("give either agents, such as [0, 3], or a share, such as 0.2")

    def attackers(self, num_agents: int, seed: int, replica: int) -> np.ndarray:
        """Say which agents attack.

        Args:
            num_agents: K.
            seed: The experiment's seed.
            replica: The replica.

        Returns:
            bool [K].

        Raises:
            ValueError: There are no such agents, or nobody attacks, or nobody is honest.
        """
        if self.share is None:
            chosen = np.array(self.agents)
            if chosen.max() >= num_agents:
                raise ValueError(f"agent {chosen.max()} does not exist; allowed are 0 to {num_agents - 1}")
        else:
            count = round(self.share * num_agents)
            if count == 0:
                raise ValueError(f"a share of {self.share} of {num_agents} agents is none")
            chosen = np.random.default_rng(draws.key(seed, "attackers", replica)).permutation(num_agents)[:count]
        attacks = np.zeros(num_agents, dtype=bool)
        attacks[chosen] = True
        if attacks.all():
            raise ValueError(f"all {num_agents} agents attack; one at least has to be honest")
        return attacks


@dataclass(frozen=True, kw_only=True)
class SignFlip(Attack):
    """Send the own row with the other sign: m = −s x_l.

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
        """Say what the attackers send."""
        return -self.scale * sent.true


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Attack):
    """Add noise to the own row, the same for all who hear it: m = x_l + σ n, n ~ N(0, I).

    Args:
        agents: The attackers; or give `share`.
        share: Share of the agents that attack.
        deviation: σ.
    """

    lies: ClassVar[bool] = True
    deviation: Annotated[float, Field(gt=0)] = 1.0

    def messages(self, sent: Messages) -> Tensor:
        """Say what the attackers send."""
        noise = draws.normal(draws.fold(sent.keys[:, None], sent.columns), ())
        return sent.true + self.deviation * noise.to(sent.true)


@dataclass(frozen=True, kw_only=True)
class ALIE(Attack):
    """A little is enough: hide in the spread of the honest rows that the receiver has, m = mean − z · deviation.

    Mean and deviation are coordinate-wise over the receiver and its honest neighbours. Without a z, the paper's: with n
    agents in the neighbourhood and m attackers among them, Φ(z) = (n − m − s) / (n − m), s = ⌊n / 2 + 1⌋ − m, and no
    less than 0.

    Args:
        agents: The attackers; or give `share`.
        share: Share of the agents that attack.
        z: How many deviations from the mean.

    References:
        M. Baruch, G. Baruch, Y. Goldberg: A little is enough: circumventing defenses for distributed learning, NeurIPS
        2019, arXiv:1902.06156.
    """

    lies: ClassVar[bool] = True
    z: Annotated[float, Field(gt=0)] | None = None

    def messages(self, sent: Messages) -> Tensor:
        """Say what the attackers send."""
        honest = 1 + sent.honest.sum(1)
        # Moments about the receiver's own row: those about zero would cancel.
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


@dataclass(frozen=True, kw_only=True)
class Dissensus(Attack):
    """Undo what a receiver would gain from its honest neighbours.

    m = x_k − ε Σ_{l ∈ H} W[k, l] (x_l − x_k) / Σ_{l ∈ B} W[k, l] to agent k with honest neighbours H and
    attackers B. With ε = 1, averaging leaves the receiver where it is; with more, it moves away from its neighbours.
    Each receiver gets a message of its own.

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
        """Say what the attackers send."""
        gain = torch.einsum("nd,ndp->np", sent.weights * sent.honest, sent.heard - sent.told)
        weight = sent.weights.new_zeros(len(gain)).index_add_(0, sent.rows, sent.weights[sent.rows, sent.slots])
        return sent.receivers - self.epsilon * gain[sent.rows] / weight[sent.rows, None]


@dataclass(frozen=True, kw_only=True)
class LabelFlip(Attack):
    """Train on wrong labels, y → C − 1 − y for C classes, and send what comes of it.

    Args:
        agents: The attackers; or give `share`.
        share: Share of the agents that attack.

    References:
        M. Fang, X. Cao, J. Jia, N. Z. Gong: Local model poisoning attacks to Byzantine-robust federated learning,
        USENIX Security 2020, arXiv:1911.11815.
    """

    spoils_labels: ClassVar[bool] = True


ATTACKS: dict[str, Callable[..., NoAttack]] = {
    "alie": ALIE,
    "dissensus": Dissensus,
    "gaussian": GaussianNoise,
    "label_flip": LabelFlip,
    "none": NoAttack,
    "sign_flip": SignFlip,
}
"""The attacks that an experiment can name."""
