"""Interface of an attack: who attacks, and what an attacker sends instead of its own row."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws
from basinet.topologies.registry import Registry

__all__ = ["ATTACKS", "Attack", "Messages", "NoAttack"]


@dataclass(frozen=True)
class Messages:
    """Some columns of the messages within a block, of which attackers send E.

    Attributes:
        told: What each agent sends the neighbour in each slot, [N, D, w].
        heard: What it would receive without attackers, [N, D, w]; 0 in empty slots.
        honest: Whether the slot holds an honest neighbour, bool [N, D].
        weights: The weights of the neighbours, [N, D].
        rows: Receivers of the attackers' messages, int64 [E].
        slots: The attackers' slots there, int64 [E].
        keys: Keys for random draws, one per message, int64 [E].
        columns: Positions of the columns in the whole row, int64 [w].
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
        """What the attackers would send if they were honest, [E, w]."""
        return self.heard[self.rows, self.slots]

    @property
    def receivers(self) -> Tensor:
        """The receivers' own rows, as sent to the attackers, [E, w]."""
        return self.told[self.rows, self.slots]


@dataclass(frozen=True)
class NoAttack:
    """Nobody attacks."""

    lies: ClassVar[bool] = False
    spoils_labels: ClassVar[bool] = False

    def attackers(self, num_agents: int, seed: int, replica: int) -> np.ndarray:
        """Return which agents attack.

        Args:
            num_agents: Number of agents K.
            seed: The experiment's seed.
            replica: The replica.

        Returns:
            bool [K].
        """
        return np.zeros(num_agents, dtype=bool)

    def messages(self, sent: Messages) -> Tensor:
        """Return what the attackers send.

        Args:
            sent: What would be sent without attackers.

        Returns:
            [E, w].
        """
        return sent.true


@dataclass(frozen=True, kw_only=True)
class Attack(NoAttack):
    """An attack by given agents, the same in all replicas, or by a share drawn in each replica.

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
        """Return which agents attack.

        Args:
            num_agents: Number of agents K.
            seed: The experiment's seed.
            replica: The replica.

        Returns:
            bool [K].

        Raises:
            ValueError: An agent does not exist, no agent attacks, or none is honest.
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
            raise ValueError(f"all {num_agents} agents attack; at least one has to be honest")
        return attacks


ATTACKS: Registry[NoAttack] = Registry("ATTACKS", {"none": NoAttack})
"""The attacks that an experiment can name."""
