"""Disturbances: what happens to messages on their way, by attackers and by faults of links."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from basinet.sim.agents.attackers import Attackers
from basinet.sim.agents.messages.broadcasts import Broadcast
from basinet.sim.agents.messages.disturbed.heard_mixer import HeardMixer
from basinet.sim.agents.messages.disturbed.late_rows import LateRows
from basinet.sim.agents.messages.disturbed.receiver_noise import ReceiverNoise
from basinet.sim.agents.messages.disturbed.running_sums import RunningSums
from basinet.sim.agents.messages.disturbed.sender_rounding import SenderRounding
from basinet.sim.agents.messages.links import Links
from basinet.sim.agents.messages.mixer import Mixing
from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.agents.personal import Personal
from basinet.sim.agents.placement import Placement
from basinet.sim.faults import LinkNoise
from basinet.sim.setup.setup import Setup

__all__ = ["Disturbances"]

Alter = Callable[[Tensor, Tensor, slice], None]
"""Changes in place what is heard, given what is told, what is heard, and the columns."""


def _nothing(told: Tensor, heard: Tensor, columns: slice) -> None:
    """Change nothing."""


class Disturbances:
    """Rounds what is sent, keeps what is late, and changes what is heard.

    Args:
        setup: The parts of the run.
        placement: The rows of this worker.
        links: The edges of each step.
        personal: The parameters that agents do not share.
        device: Device of the rows.

    Attributes:
        attackers: Falsify what others hear from them; None if nobody does.
        running_sums: What arrives later, where weights sum to one over what agents send.
        late_rows: What may arrive later where they sum to one over what agents receive.
        piece: Numbers of a broadcast that a worker holds at a time.
    """

    def __init__(
        self, setup: Setup, placement: Placement, links: Links, personal: Personal, device: torch.device
    ) -> None:
        config, faults = setup.config, setup.faults
        self._links, self._personal = links, personal
        self.attackers: Attackers | None = None
        if setup.attack.lies:
            self.attackers = Attackers(setup.attack, setup.attackers, placement, config.seed)
        noisy = any(isinstance(fault, LinkNoise) for fault in faults)
        self._noise = ReceiverNoise(faults, placement, config.seed, device) if noisy else None
        self._rounding = SenderRounding(faults, placement, personal, config.seed, device)
        self.running_sums, self.late_rows = RunningSums(), LateRows(links.outages)
        self._count = (-1, 0)
        self.piece = 2**20

    def mixing(
        self, kind: str, x: Tensor, step: int, size: int, *, truly: bool = False
    ) -> tuple[Mixing, Tensor | None, int]:
        """Find how rows are mixed.

        Args:
            kind: The kind of edges.
            x: The rows, [N, w].
            step: The step.
            size: Bytes of a row on the wire.
            truly: Whether this message is neither falsified nor noisy nor rounded.

        Returns:
            What computes the product, what to add to it, and the bytes of a row.
        """
        number, told, neighbors = self._number(step), x, self._links.neighbors
        if not truly:
            told, size = self._rounding.sent(x, step, number, size)
        errors: list[Tensor | None] = []
        if self.late_rows.happen or told is not x:
            alter = _nothing if truly else self._alter(neighbors(kind, step), step, number)
            mixer: Mixing = self._heard_mixer(kind, f"{kind} {number}", x, told, step, alter)
        else:
            mixer = self._links.mixer(kind, step)
            if self.attackers is not None and not truly:
                errors.append(self.attackers.error(neighbors(kind, step), x, step, self.piece))
            if self._noise is not None and not truly:
                errors.append(self._noise.of_mix(neighbors(kind, step), x, step, number))
        if kind in self._links.columns and self._links.outages.of_links:
            parts = f"{kind} {number}", self._links.all_neighbors(kind, step), self._links.outages.at(kind, step)
            errors.append(self.running_sums.deliver(*parts, told, self.piece))
        found = [error for error in errors if error is not None]
        return mixer, sum(found[1:], found[0]) if found else None, size

    def mixing_of_follower(self, x: Tensor, step: int, place: int) -> Mixing:
        """Find how rows are mixed that follow the parameters, and are only late or lost like these.

        Args:
            x: The rows, [N, w].
            step: The step.
            place: Their place among those that do.

        Returns:
            What computes the product.
        """
        if not self.late_rows.happen:
            return self._links.mixer("graph", step, positive=True)
        return self._heard_mixer("graph", f"follower {place}", x, x, step, _nothing, positive=True)

    def _heard_mixer(
        self, kind: str, message: str, x: Tensor, told: Tensor, step: int, alter: Alter, *, positive: bool = False
    ) -> HeardMixer:
        neighbors = self._links.neighbors(kind, step)

        def hear(others: Tensor) -> Broadcast:
            arriving = self.late_rows.send(kind, message, neighbors, step, told, others)
            return Broadcast(x, arriving, self._personal, self.piece, alter)

        return HeardMixer(neighbors, told, hear, positive=positive)

    def broadcast(self, x: Tensor, step: int) -> tuple[Broadcast, int]:
        """Send all neighbours the same row.

        Args:
            x: [N, P].
            step: The step.

        Returns:
            What each agent receives, and the bytes of a row.
        """
        number, neighbors = self._number(step), self._links.neighbors("graph", step)
        told, size = self._rounding.sent(x, step, number, self._personal.row_bytes(x))
        alter, others = self._alter(neighbors, step, number), neighbors.others(told)
        arriving = self.late_rows.send("graph", f"graph {number}", neighbors, step, told, others)
        return Broadcast(x, arriving, self._personal, self.piece, alter), size

    def exchange(self, messages: Tensor, step: int, size: int) -> tuple[Tensor, int]:
        """Send each neighbour a row.

        Args:
            messages: [N, D, ...], for the neighbour in each slot.
            step: The step.
            size: Bytes of a row on the wire.

        Returns:
            What is received, [N, D, ...], and the bytes of a row.
        """
        number, neighbors = self._number(step), self._links.neighbors("graph", step)
        told, size = self._rounding.sent(messages, step, number, size)
        received = self._links.all_neighbors("graph", step).exchange(told)
        received = self.late_rows.exchange("graph", f"exchange {number}", neighbors, step, received)
        received[~neighbors.heard] = 0
        if self.attackers is not None:
            self.attackers.falsify_all(neighbors, messages, received, step)
        if self._noise is not None and received.is_floating_point():
            rows = received.view(*received.shape[:2], -1)
            self._noise.add(rows, neighbors, slice(0, rows.shape[2]), step, number)
        self._personal.keep(received, messages)
        return received, size

    def _alter(self, neighbors: Neighbors, step: int, number: int) -> Alter:
        """Return what changes a message: attackers and noise."""
        attackers, noise = self.attackers, self._noise
        lie = 0 if attackers is None else attackers.message(step, neighbors)

        def alter(told: Tensor, heard: Tensor, columns: slice) -> None:
            if attackers is not None:
                attackers.falsify(neighbors, told, heard, columns, step, lie)
            if noise is not None:
                noise.add(heard, neighbors, columns, step, number)

        return alter

    def _number(self, step: int) -> int:
        """Number the next message of a step."""
        self._count = (step, self._count[1] + 1 if self._count[0] == step else 0)
        return self._count[1]

    def load(self, steps: Mapping[str, Sequence[int]], sums: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        """Restore what has been sent and may not have arrived yet.

        Args:
            steps: See `LateRows.steps`.
            sums: See `RunningSums.late`.
            rows: See `LateRows.rows`.
        """
        self.running_sums.late = {**sums}
        if rows:
            self.late_rows.load(steps, rows, self._links.all_neighbors("graph", 0).others)
