"""Outages: what the faults of a run put out of order in each step, the same on every worker."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from basinet.algorithms import draws
from basinet.sim.faults.fault import Fault, LinkFault, States
from basinet.topologies.mixing_matrix import edges_of

__all__ = ["Outage", "Outages"]


@dataclass(frozen=True)
class Outage:
    """What is out of order in a step, along the edges of its mixing matrix by receivers, then senders.

    Attributes:
        lost: Which messages do not arrive, bool [R, E].
        missing: Weight of the messages that each agent lacks, [R, K].
        keeps: Whether an agent gives it to its own value, so that its weights keep their sum.
    """

    lost: NDArray[np.bool_]
    missing: NDArray[np.float64]
    keeps: bool


@dataclass(frozen=True)
class _Links:
    """The edges of a mixing matrix, and which of them fail."""

    receivers: NDArray[np.int64]
    weights: NDArray[np.float64]
    failures: list[States]


class Outages:
    """Finds what is out of order, by draws keyed by (seed, fault, replica, link, step).

    Args:
        faults: The faults.
        sequences: The mixing matrices of a period, by kind of edge.
        columns: The kinds whose weights sum to one over what an agent sends, and not over what it receives.
        replicas: R.
        seed: The experiment's seed.

    Attributes:
        expected: Whether there may be any.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        sequences: Mapping[str, Sequence[csr_array]],
        *,
        columns: Collection[str] = (),
        replicas: int = 1,
        seed: int = 0,
    ) -> None:
        self._faults = [(number, fault) for number, fault in enumerate(faults) if isinstance(fault, LinkFault)]
        self._sequences = sequences
        self._columns = columns
        self._replicas = replicas
        self._seed = seed
        self._links: dict[tuple[str, int], _Links] = {}
        self.expected = bool(self._faults)
        self._last: dict[str, tuple[int, Outage | None]] = {}

    def at(self, kind: str, step: int) -> Outage | None:
        """Find what is out of order in a step.

        Args:
            kind: The kind of edge.
            step: The step.

        Returns:
            The outage; None if nothing is.
        """
        if not self.expected:
            return None
        if self._last.get(kind, (-1, None))[0] != step:
            self._last[kind] = step, self._find(kind, step)
        return self._last[kind][1]

    def _find(self, kind: str, step: int) -> Outage | None:
        sequence = self._sequences[kind]
        phase = step % len(sequence)
        if (kind, phase) not in self._links:
            self._links[kind, phase] = self._describe(sequence[phase])
        links = self._links[kind, phase]
        lost = np.zeros((self._replicas, len(links.receivers)), dtype=bool)
        for fails in links.failures:
            lost |= fails(step).numpy()
        if not lost.any():
            return None
        replicas, edges = lost.nonzero()
        agents = sequence[phase].shape[0]
        rows = replicas * agents + links.receivers[edges]
        missing = np.bincount(rows, links.weights[edges], minlength=self._replicas * agents)
        return Outage(lost, missing.reshape(self._replicas, agents), kind not in self._columns)

    def _describe(self, weights: csr_array) -> _Links:
        """Prepare what is drawn for the edges of a mixing matrix."""
        receivers, senders, values = edges_of(weights)
        ends = torch.from_numpy(receivers), torch.from_numpy(senders)
        failures = []
        for number, fault in self._faults:
            root = torch.full((self._replicas, 1), draws.key(self._seed, "fault", number))
            keys = draws.fold(root, torch.arange(self._replicas)[:, None])
            first, second = (torch.minimum(*ends), torch.maximum(*ends)) if fault.symmetric else ends
            failures.append(fault.failures(draws.fold(draws.fold(keys, first), second)))
        return _Links(receivers, values, failures)
