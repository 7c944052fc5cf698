"""Attackers: who attacks, and how they falsify messages."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.attacks import Messages, NoAttack
from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.agents.neighbors import Neighbors
from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.mistakes import user_code
from basinet.sim.tasks import Task

__all__ = ["Attackers", "make_attack", "no_average"]


def make_attack(config: Config, task: Task, strategy: Any, num_agents: int) -> tuple[NoAttack, np.ndarray]:
    """Make a run's attack, and find who attacks.

    Args:
        config: The run.
        task: Its task.
        strategy: Its strategy.
        num_agents: K.

    Returns:
        The attack, and who attacks, bool [R, K].

    Raises:
        ExperimentError: It makes no sense here.
    """
    name = config.attack.name
    attack = config.attack.make()
    if not isinstance(attack, NoAttack):
        raise ExperimentError(f"attack: {name} makes no basinet.algorithms.attacks.Attack")
    if attack.spoils_labels and (task.draw is not None or not task.classification):
        raise ExperimentError(
            f"attack: {name} is for training data with classes, and {config.task.component.name} has none"
        )
    if attack.lies and StrategyTraits.of(strategy).averages:
        raise ExperimentError(no_average(config))
    with user_code(config.attack):
        chosen = [attack.attackers(num_agents, config.seed, replica) for replica in range(config.replicas)]
    return attack, np.stack(chosen)


def no_average(config: Config) -> str:
    """Say why a strategy that averages over all agents cannot be attacked by what neighbours are told.

    Args:
        config: The run.

    Returns:
        A sentence.
    """
    return (
        f"attack: {config.attack.name} is on what neighbours tell each other, and {config.strategy.name} averages over"
        " all agents; allowed are label_flip and none, or another strategy"
    )


@dataclass(frozen=True)
class _Lies:
    """The messages from attackers to honest agents of a block, by one graph; see `Messages`."""

    honest: Tensor
    rows: Tensor
    slots: Tensor
    keys: Tensor


class Attackers:
    """Lets the attackers lie in what they send.

    A message is falsified where it arrives, by what the receiver's process knows: the rows of its neighbourhood, and
    keys of the senders, so that placement changes nothing.

    Args:
        attack: The attack.
        attacks: Who attacks, bool [R, K].
        placement: The rows of this worker.
        seed: The experiment's seed.
    """

    def __init__(self, attack: NoAttack, attacks: np.ndarray, placement: Placement, seed: int) -> None:
        self._attack = attack
        self._attacks = attacks
        self._placement = placement
        self._seed = seed
        self._known: dict[int, _Lies] = {}
        self._count = (-1, 0)

    def message(self, step: int) -> int:
        """Number the next message of all agents, for the draws in it.

        Args:
            step: The step.

        Returns:
            The messages of a step count from 0.
        """
        self._count = (step, self._count[1] + 1 if self._count[0] == step else 0)
        return self._count[1]

    def _lies(self, neighbors: Neighbors) -> _Lies:
        """Find the messages that an attacker sends to an honest agent."""
        if id(neighbors) not in self._known:
            device = neighbors.heard.device
            replicas, agents = self._placement.index(device)
            slots = neighbors.heard.shape[1]
            senders = neighbors.exchange(agents[:, None].expand(-1, slots))
            attacks = torch.from_numpy(self._attacks).to(device)
            liar = neighbors.heard & attacks[replicas[:, None], senders]
            rows, places = (liar & ~attacks[replicas, agents][:, None]).nonzero(as_tuple=True)
            keys = draws.agent_keys(self._seed, "attack", replicas[rows], senders[rows, places])
            self._known[id(neighbors)] = _Lies(neighbors.heard & ~liar, rows, places, keys)
        return self._known[id(neighbors)]

    def falsify(
        self, neighbors: Neighbors, told: Tensor, heard: Tensor, columns: slice, step: int, message: int
    ) -> None:
        """Replace what honest agents hear from attackers, in place.

        Args:
            neighbors: Who hears whom.
            told: What each agent tells the neighbour in each slot, [N, D, w].
            heard: What it hears from it, [N, D, w].
            columns: Which columns of the whole row they are.
            step: The step.
            message: Number of the message in the step.
        """
        lies = self._lies(neighbors)
        if len(lies.rows):
            heard[lies.rows, lies.slots] = self._attack.messages(
                Messages(
                    told=told,
                    heard=heard,
                    honest=lies.honest,
                    weights=neighbors.weights,
                    rows=lies.rows,
                    slots=lies.slots,
                    keys=draws.fold(draws.fold(lies.keys, step), message),
                    columns=torch.arange(columns.start, columns.stop, device=told.device),
                )
            )

    def falsify_all(self, neighbors: Neighbors, messages: Tensor, received: Tensor, step: int) -> None:
        """Replace what honest agents get from attackers in whole rows, in place; integers (keys) are told truly.

        Args:
            neighbors: Who hears whom.
            messages: What each agent tells the neighbour in each slot, [N, D, ...].
            received: What it gets from it, [N, D, ...].
            step: The step.
        """
        if not received.is_floating_point():
            return
        told, heard = (rows.reshape(*rows.shape[:2], rows[:1, :1].numel()) for rows in (messages, received))
        self.falsify(neighbors, told, heard, slice(0, told.shape[2]), step, self.message(step))

    def error(self, neighbors: Neighbors, x: Tensor, step: int, piece: int) -> Tensor:
        """Compute by how much lies change the weighted sums of the neighbours' rows, Σ_l W[k, l] (m_l − x_l).

        Args:
            neighbors: Who hears whom, with which weights.
            x: The rows that all agents would send, [N, P].
            step: The step.
            piece: See `Neighbors.broadcast`.

        Returns:
            [N, P].
        """
        message = self.message(step)
        lies = self._lies(neighbors)
        error = torch.zeros_like(x)
        weights = neighbors.weights[lies.rows, lies.slots, None]
        for columns, told, heard in neighbors.broadcast(x, piece):
            true = heard[lies.rows, lies.slots]
            self.falsify(neighbors, told, heard, columns, step, message)
            error[:, columns] = torch.zeros_like(x[:, columns]).index_add_(
                0, lies.rows, weights * (heard[lies.rows, lies.slots] - true)
            )
        return error
