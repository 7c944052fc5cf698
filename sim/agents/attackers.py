"""Attackers: who attacks, and where an attack takes hold of what agents send and of the data that they hold."""

from collections.abc import Iterator, Sequence
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
from basinet.sim.data.sampling import Sampler
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.mistakes import user_code
from basinet.sim.tasks import IGNORED, Batch, Task

__all__ = ["Attackers", "Broadcast", "SpoiltSampler", "make_attack", "no_average"]


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
        self.attack = attack
        self.placement = placement
        self.seed = seed
        self.attacks = attacks
        self.known: dict[int, _Lies] = {}
        self.count = (-1, 0)

    def message(self, step: int) -> int:
        """Number the next message of all agents, for the draws in it.

        Args:
            step: The step.

        Returns:
            The messages of a step count from 0.
        """
        self.count = (step, self.count[1] + 1 if self.count[0] == step else 0)
        return self.count[1]

    def _lies(self, neighbors: Neighbors) -> _Lies:
        """Find the messages that an attacker sends to an honest agent."""
        if id(neighbors) not in self.known:
            p, device = self.placement, neighbors.heard.device
            replicas, agents = torch.from_numpy(p.row_replicas).to(device), torch.from_numpy(p.row_agents).to(device)
            slots = neighbors.heard.shape[1]
            senders = neighbors.exchange(agents[:, None].expand(-1, slots))
            attacks = torch.from_numpy(self.attacks).to(device)
            liar = neighbors.heard & attacks[replicas[:, None], senders]
            rows, places = (liar & ~attacks[replicas, agents][:, None]).nonzero(as_tuple=True)
            keys = draws.agent_keys(self.seed, "attack", replicas[rows], senders[rows, places])
            self.known[id(neighbors)] = _Lies(neighbors.heard & ~liar, rows, places, keys)
        return self.known[id(neighbors)]

    def falsify(
        self, neighbors: Neighbors, told: Tensor, heard: Tensor, columns: Tensor, step: int, message: int
    ) -> None:
        """Replace what honest agents hear from attackers, in place.

        Args:
            neighbors: Who hears whom.
            told: What each agent tells the neighbour in each slot, [N, D, w].
            heard: What it hears from it, [N, D, w].
            columns: Places of the columns in the whole row, int64 [w].
            step: The step.
            message: Number of the message in the step.
        """
        lies = self._lies(neighbors)
        if len(lies.rows):
            heard[lies.rows, lies.slots] = self.attack.messages(
                Messages(
                    told=told,
                    heard=heard,
                    honest=lies.honest,
                    weights=neighbors.weights,
                    rows=lies.rows,
                    slots=lies.slots,
                    keys=draws.fold(draws.fold(lies.keys, step), message),
                    columns=columns,
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
        self.falsify(neighbors, told, heard, _places(slice(0, told.shape[2]), told), step, self.message(step))

    def error(self, neighbors: Neighbors, x: Tensor, step: int) -> Tensor:
        """Compute by how much lies change the weighted sums of the neighbours' rows, Σ_l W[k, l] (m_l − x_l).

        Args:
            neighbors: Who hears whom, with which weights.
            x: The rows that all agents would send, [N, P].
            step: The step.

        Returns:
            [N, P].
        """
        message = self.message(step)
        lies = self._lies(neighbors)
        error = torch.zeros_like(x)
        weights = neighbors.weights[lies.rows, lies.slots, None]
        for columns, told, heard in neighbors.broadcast(x):
            true = heard[lies.rows, lies.slots]
            self.falsify(neighbors, told, heard, _places(columns, x), step, message)
            error[:, columns] = torch.zeros_like(x[:, columns]).index_add_(
                0, lies.rows, weights * (heard[lies.rows, lies.slots] - true)
            )
        return error


class Broadcast:
    """The rows that all agents give to all of their neighbours, the attackers' falsified, a few columns at a time.

    Args:
        neighbors: Who hears whom.
        x: The rows, [N, P].
        attackers: Who lies, if anybody does.
        step: The step.
        personal: Columns of which each agent gets its own.
    """

    def __init__(
        self, neighbors: Neighbors, x: Tensor, attackers: Attackers | None, step: int, personal: Sequence[slice]
    ) -> None:
        self.neighbors = neighbors
        self.x = x
        self.attackers = attackers
        self.step = step
        self.personal = personal
        self.message = 0 if attackers is None else attackers.message(step)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Go through the columns: these, and what comes from the neighbour in each slot, [N, D, w]."""
        for columns, told, heard in self.neighbors.broadcast(self.x):
            if self.attackers is not None:
                self.attackers.falsify(self.neighbors, told, heard, _places(columns, told), self.step, self.message)
            for own in self.personal:
                first, last = max(own.start, columns.start), min(own.stop, columns.stop)
                if first < last:
                    heard[..., first - columns.start : last - columns.start] = self.x[:, None, first:last]
            yield columns, heard


def _places(columns: slice, like: Tensor) -> Tensor:
    return torch.arange(columns.start, columns.stop, device=like.device)


class SpoiltSampler:
    """Gives attackers wrong labels, y → C − 1 − y.

    Args:
        sampler: Draws the batches; targets are the last of their tensors.
        attacks: Which rows attack, bool [N].
        num_classes: C.
    """

    def __init__(self, sampler: Sampler, attacks: Tensor, num_classes: int) -> None:
        self.sampler = sampler
        self.attacks = attacks
        self.num_classes = num_classes

    def _spoil(self, batch: Batch) -> Batch:
        targets = batch[-1]
        attacks = self.attacks.view(-1, *(1 for _ in targets.shape[1:])) & (targets != IGNORED)
        return *batch[:-1], torch.where(attacks, self.num_classes - 1 - targets, targets)

    def batch(self, step: int, size: int | None = None) -> Batch:
        """Draw the batches of a step.

        Args:
            step: The step.
            size: See `Sampler`.

        Returns:
            Tensors [N, B, ...].
        """
        return self._spoil(self.sampler.batch(step, size))

    def sweep(self) -> Iterator[tuple[Batch, Tensor]]:
        """Go through all of the agents' data.

        Yields:
            Tensors [N, B, ...], and which share of an agent's data they are, [N].
        """
        for batch, share in self.sampler.sweep():
            yield self._spoil(batch), share
