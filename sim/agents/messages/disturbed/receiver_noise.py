"""Noise on received numbers, drawn where they arrive by (seed, fault, replica, agent, step, message)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.agents.placement import Placement
from basinet.sim.faults import Fault, LinkNoise

__all__ = ["ReceiverNoise"]


class ReceiverNoise:
    """Draws the noise of messages.

    Args:
        faults: The faults, of which those that are noise matter.
        placement: The rows of this worker.
        seed: The experiment's seed.
        device: Their device.
    """

    def __init__(self, faults: Sequence[Fault], placement: Placement, seed: int, device: torch.device) -> None:
        rows = placement.index(device)
        self._noises = [
            (fault.size, draws.agent_keys(seed, f"fault {number}", *rows))
            for number, fault in enumerate(faults)
            if isinstance(fault, LinkNoise) and fault.size
        ]

    def of_mix(self, neighbors: Neighbors, x: Tensor, step: int, message: int) -> Tensor | None:
        """Draw the noise of a weighted sum of neighbours' rows, which is as large as that of all of them together.

        Args:
            neighbors: The neighbours that are heard.
            x: The rows, [N, w].
            step: The step.
            message: Number of the message within the step.

        Returns:
            [N, w]; None if there is none.
        """
        if not self._noises:
            return None
        scale = neighbors.weights.square().sum(1, keepdim=True).sqrt()
        return torch.stack([scale * size * _normal(keys, step, message, x) for size, keys in self._noises]).sum(0)

    def add(self, heard: Tensor, neighbors: Neighbors, columns: slice, step: int, message: int) -> None:
        """Add noise to what is heard from each neighbour, in place.

        Args:
            heard: [N, D, w].
            neighbors: The neighbours that are heard.
            columns: The columns of the full rows that these are.
            step: The step.
            message: Number of the message within the step.
        """
        for size, keys in self._noises:
            slots = draws.fold(_now(keys, step, message)[:, None], torch.arange(heard.shape[1], device=heard.device))
            places = torch.arange(columns.start, columns.stop, device=heard.device)
            noise = draws.normal(draws.fold(slots[:, :, None], places), (), dtype=heard.dtype)
            heard += size * noise.where(neighbors.heard[:, :, None], 0)


def _now(keys: Tensor, step: int, message: int) -> Tensor:
    return draws.fold(draws.fold(keys, step), message)


def _normal(keys: Tensor, step: int, message: int, x: Tensor) -> Tensor:
    return draws.normal(_now(keys, step, message), x.shape[1:], dtype=x.dtype)
