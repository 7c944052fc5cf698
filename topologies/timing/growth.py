"""How long a step takes in the long run if computing and sending always take as long: the growth of its times."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from basinet.topologies.timing.cycle_mean import Cycle, critical_cycle
from basinet.topologies.timing.max_plus import Arcs

__all__ = ["combining_first", "growth", "joined", "overlapped", "sending_after", "symmetric_growth"]


def sending_after(compute: NDArray[np.int64], network: Arcs) -> Arcs:
    """Return the waiting of a step in which agents compute, then send: diffusion (ATC).

    S_k' = max(S_k + C_k, max_l (S_l + C_l + D_lk)).

    Args:
        compute: How long each agent computes, C, int64 [K] nanoseconds; 0 for a further round of combining.
        network: How long a message takes on each link, D.

    Returns:
        The arcs of a step.
    """
    return joined(compute, network, network.delays + compute[network.senders])


def combining_first(compute: NDArray[np.int64], network: Arcs) -> Arcs:
    """Return the waiting of a step in which agents send, then compute with what they received: diffusion (CTA).

    S_k' = C_k + max(S_k, max_l (S_l + D_lk)).

    Args:
        compute: See `sending_after`.
        network: See `sending_after`.

    Returns:
        The arcs of a step.
    """
    return joined(compute, network, network.delays + compute[network.receivers])


def overlapped(compute: NDArray[np.int64], network: Arcs) -> Arcs:
    """Return the waiting of a step in which agents send while they compute: consensus.

    S_k' = max(S_k + C_k, max_l (S_l + D_lk)).

    Args:
        compute: See `sending_after`.
        network: See `sending_after`.

    Returns:
        The arcs of a step.
    """
    return joined(compute, network, network.delays)


def joined(own: NDArray[np.int64], network: Arcs, delays: NDArray[np.int64]) -> Arcs:
    """Return the links of a network with other delays, and an arc from each agent to itself.

    Args:
        own: Delay of each agent's own arc, int64 [K].
        network: The links.
        delays: Delay of each link, int64 [E].

    Returns:
        The arcs.
    """
    every = np.arange(network.agents)
    return Arcs.of(
        network.agents,
        np.concatenate([every, network.receivers]),
        np.concatenate([every, network.senders]),
        np.concatenate([own, delays]),
    )


def growth(stages: Sequence[Arcs]) -> Cycle:
    """Compute how long a step takes in the long run: the largest mean on cycles through its stages.

    A stage follows the other, as when neighbours are waited for twice in a step; steps that repeat after a period are
    the stages of one long step.

    Args:
        stages: Who waits for whom in each stage of a step.

    Returns:
        Nanoseconds per step, and the agents that are waited for, stage by stage.

    Example:
        >>> ring = Arcs.of(3, receivers=[1, 2, 0], senders=[0, 1, 2], delays=[1, 2, 3])
        >>> growth([sending_after(np.array([1, 2, 4]), ring)])  # on average over the ring, 1 + 1, 2 + 2, 4 + 3
        Cycle(mean=Fraction(13, 3), agents=(0, 1, 2))
    """
    agents, count = stages[0].agents, len(stages)
    # A node for each agent before each stage: every arc leads from a stage to the next.
    cycle = critical_cycle(
        Arcs.of(
            agents * count,
            np.concatenate([(i + 1) % count * agents + stage.receivers for i, stage in enumerate(stages)]),
            np.concatenate([i * agents + stage.senders for i, stage in enumerate(stages)]),
            np.concatenate([stage.delays for stage in stages]),
        )
    )
    return Cycle(cycle.mean * count, tuple(node % agents for node in cycle.agents))


def symmetric_growth(compute: NDArray[np.int64], network: Arcs, *, overlap: bool = False) -> Fraction:
    r"""Compute the growth on a network whose links take as long both ways, in one pass over the links.

    Diffusion, ATC or CTA: :math:`\max(\max_k C_k, \max_{kl} (C_k + C_l) / 2 + D_{kl})`; consensus, which sends while it
    computes: :math:`\max(\max_k C_k, \max_{kl} D_{kl})`.

    Args:
        compute: How long each agent computes, C, int64 [K] nanoseconds.
        network: How long a message takes on each link, D, equal in both directions.
        overlap: Whether agents send while they compute.

    Returns:
        Nanoseconds per step.

    Raises:
        ValueError: A link takes longer one way than the other, or leads only one way.

    Example:
        >>> path = Arcs.of(3, receivers=[1, 0, 2, 1], senders=[0, 1, 1, 2], delays=[1, 1, 2, 2])
        >>> symmetric_growth(np.array([1, 2, 4]), path), symmetric_growth(np.array([1, 2, 4]), path, overlap=True)
        (Fraction(5, 1), Fraction(4, 1))
    """
    there, back, delays = network.senders, network.receivers, network.delays
    forth, returned = np.lexsort((delays, back, there)), np.lexsort((delays, there, back))
    differs = np.flatnonzero(
        (there[forth] != back[returned]) | (back[forth] != there[returned]) | (delays[forth] != delays[returned])
    )
    if differs.size:
        link = forth[differs[0]]
        raise ValueError(f"the link between agents {there[link]} and {back[link]} is not the same both ways")
    twice = 2 * delays + (0 if overlap else compute[there] + compute[back])
    return Fraction(max(2 * int(compute.max()), int(twice.max(initial=0))), 2)
