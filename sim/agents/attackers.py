"""Attackers: which agents attack, and how their messages are falsified."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.attacks import Messages, NoAttack
from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.mistakes import user_code
from basinet.sim.tasks import Task

__all__ = ["Attackers", "make_attack", "no_average"]


def make_attack(config: Config, task: Task, strategy: Any, num_agents: int) -> tuple[NoAttack, np.ndarray]:
    """Build the attack of a run and choose the attackers.

    Args:
        config: The run.
        task: Its task.
        strategy: Its strategy.
        num_agents: K.

    Returns:
        The attack, and whether each agent attacks, bool [R, K].

    Raises:
        ExperimentError: The attack does not fit the task or the strategy.
    """
    name = config.attack.name
    attack = config.attack.make()
    if not isinstance(attack, NoAttack):
        raise ExperimentError(f"attack: {name} does not return a basinet.algorithms.attacks.Attack")
    if attack.spoils_labels and (task.draw is not None or not task.classification):
        raise ExperimentError(
            f"attack: {name} needs training data with classes, and {config.task.component.name} has none"
        )
    if attack.lies and StrategyTraits.of(strategy).averages:
        raise ExperimentError(no_average(config))
    with user_code(config.attack):
        chosen = [attack.attackers(num_agents, config.seed, replica) for replica in range(config.replicas)]
    return attack, np.stack(chosen)


def no_average(config: Config) -> str:
    """Explain why a strategy that averages over all agents cannot be combined with an attack on messages.

    Args:
        config: The run.

    Returns:
        A sentence for an error message.
    """
    return (
        f"attack: {config.attack.name} falsifies messages between neighbours, but {config.strategy.name} averages over"
        " all agents; allowed are label_flip and none, or another strategy"
    )


@dataclass(frozen=True)
class _Lies:
    """The messages from attackers to honest agents of a block on one graph, see `Messages`."""

    honest: Tensor
    rows: Tensor
    slots: Tensor
    keys: Tensor


class Attackers:
    """Falsifies the messages of the attackers.

    A message is falsified where it arrives, from what the receiver's process knows: the rows of its neighbourhood and
    the senders' keys. Placement therefore changes nothing.

    Args:
        attack: The attack.
        attacks: Whether each agent attacks, bool [R, K].
        placement: The rows of this worker.
        seed: The experiment's seed.
    """

    def __init__(self, attack: NoAttack, attacks: np.ndarray, placement: Placement, seed: int) -> None:
        self._attack = attack
        self._attacks = attacks
        self._placement = placement
        self._seed = seed
        self._known: WeakKeyDictionary[Neighbors, _Lies] = WeakKeyDictionary()
        self._count = (-1, 0)

    def message(self, step: int, neighbors: Neighbors) -> int:
        """Number the next message that all agents send, as a key for its draws, and ask who sends to whom.

        Args:
            step: The step.
            neighbors: Who hears it.

        Returns:
            The message's number within the step, from 0.
        """
        self._count = (step, self._count[1] + 1 if self._count[0] == step else 0)
        self._lies(neighbors)
        return self._count[1]

    def _lies(self, neighbors: Neighbors) -> _Lies:
        """Find the messages that attackers send to honest agents."""
        if neighbors not in self._known:
            device = neighbors.heard.device
            replicas, agents = self._placement.index(device)
            slots = neighbors.heard.shape[1]
            senders = neighbors.exchange(agents[:, None].expand(-1, slots))
            attacks = torch.from_numpy(self._attacks).to(device)
            liar = neighbors.heard & attacks[replicas[:, None], senders]
            rows, places = (liar & ~attacks[replicas, agents][:, None]).nonzero(as_tuple=True)
            keys = draws.agent_keys(self._seed, "attack", replicas[rows], senders[rows, places])
            self._known[neighbors] = _Lies(neighbors.heard & ~liar, rows, places, keys)
        return self._known[neighbors]

    def falsify(
        self, neighbors: Neighbors, told: Tensor, heard: Tensor, columns: slice, step: int, message: int
    ) -> None:
        """Replace, in place, what honest agents hear from attackers.

        Args:
            neighbors: The neighbours.
            told: What each agent sends to the neighbour in each slot, [N, D, w].
            heard: What it receives from that neighbour, [N, D, w].
            columns: The columns of the full rows that these are.
            step: The step.
            message: Number of the message within the step.
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
        """Replace, in place, the full rows that honest agents receive from attackers, except integers (keys).

        Args:
            neighbors: The neighbours.
            messages: What each agent sends to the neighbour in each slot, [N, D, ...].
            received: What it receives from that neighbour, [N, D, ...].
            step: The step.
        """
        if not received.is_floating_point():
            return
        told, heard = (rows.reshape(*rows.shape[:2], rows[:1, :1].numel()) for rows in (messages, received))
        self.falsify(neighbors, told, heard, slice(0, told.shape[2]), step, self.message(step, neighbors))

    def error(self, neighbors: Neighbors, x: Tensor, step: int, piece: int) -> Tensor:
        """Compute by how much the attack changes the weighted sums of the neighbours' rows, Σ_l W[k, l] (m_l − x_l).

        Args:
            neighbors: The neighbours and their weights.
            x: The rows that all agents would truthfully send, [N, P].
            step: The step.
            piece: See `Neighbors.broadcast`.

        Returns:
            The change, [N, P].
        """
        message = self.message(step, neighbors)
        lies = self._lies(neighbors)
        error = torch.zeros_like(x)
        weights = neighbors.weights[lies.rows, lies.slots, None]
        for columns, told, heard in neighbors.broadcast(x, neighbors.others(x), piece):
            true = heard[lies.rows, lies.slots]
            self.falsify(neighbors, told, heard, columns, step, message)
            error[:, columns] = torch.zeros_like(x[:, columns]).index_add_(
                0, lies.rows, weights * (heard[lies.rows, lies.slots] - true)
            )
        return error
