"""Mixing what agents hear where that is not what their neighbours have."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from basinet.sim.agents.messages.neighbors import Neighbors

__all__ = ["HeardMixer"]

_TOLERANCE = 1e-8
"""Tolerance within which weights count as summing to one."""


class HeardMixer:
    """Computes x_k ← W[k, k] x_k + Σ_l W[k, l] h_kl with what agents hear, in the place of a `Mixer`.

    Args:
        neighbors: The neighbours that are heard.
        told: What agents send instead of their rows, [N, P].
        hear: Returns what they hear, columns and [N, D, w], given what other workers have sent, [H, P].
        positive: Whether what is nonnegative stays so; otherwise, agents that agree stay exactly as they are.
    """

    def __init__(
        self,
        neighbors: Neighbors,
        told: Tensor,
        hear: Callable[[Tensor], Iterable[tuple[slice, Tensor]]],
        *,
        positive: bool = False,
    ) -> None:
        self.routes = neighbors.routes
        self._neighbors, self._told, self._hear, self._positive = neighbors, told, hear, positive

    def leaving(self, x: Tensor) -> Tensor:
        """Return what is sent to other workers; see `Mixer.leaving`."""
        return self._told

    def combine(self, x: Tensor, result: Tensor) -> None:
        """Compute what agents keep of their own; see `Mixer.combine`."""
        own, weights = self._neighbors.own, self._neighbors.weights
        if not self._positive:
            own = own + weights.sum(1)
            own = torch.where((own - 1).abs() < _TOLERANCE, 1, own)
        torch.mul(x, own[:, None], out=result)

    def add(self, others: Tensor, x: Tensor, result: Tensor) -> None:
        """Add what agents hear; see `Mixer.add`."""
        for columns, heard in self._hear(others):
            change = heard if self._positive else heard - x[:, None, columns]
            result[:, columns] += torch.einsum("nd,ndw->nw", self._neighbors.weights, change)
