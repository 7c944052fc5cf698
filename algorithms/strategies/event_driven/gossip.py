"""Pairwise gossip: agents average with one neighbour at a time, and go on when they have."""

from dataclasses import dataclass
from typing import Literal

from basinet.algorithms.strategies.event_driven.ad_psgd import ADPSGD
from basinet.algorithms.strategies.event_driven.events import Events
from basinet.algorithms.strategies.strategy import STRATEGIES

__all__ = ["Gossip"]


@STRATEGIES.register("gossip")
@dataclass(frozen=True)
class Gossip(ADPSGD):
    """Pairwise gossip: after each gradient, an agent averages with a random neighbour, and then goes on.

    When agent k has finished its gradient: x_k ← adapt(x_k, g_k), with the gradient of where it began; it asks a
    neighbour l, drawn uniformly, for x_k, x_l ← (x_k + x_l) / 2, and computes when it has the answer, for which
    `ad_psgd` does not wait. Who is asked averages at once, and computes on. At the learning rate 0 this is randomized
    gossip: on a complete graph the agents' variance shrinks by the factor 1 − 1 / (K − 1) with each average.

    It minimises Σ_k r_k J_k, with r_k the rate at which agent k finishes gradients: fast agents count more.

    Args:
        active: Who asks: "all", or "half", the agents on one side of a bipartite graph.
        period: Gradients between the times at which an agent asks.
        averages: How many neighbours it then asks, one after another.

    References:
        S. Boyd, A. Ghosh, B. Prabhakar, D. Shah: Randomized gossip algorithms, IEEE TIT 52 (2006),
        doi:10.1109/TIT.2006.874516. P. Bianchi, G. Fort, W. Hachem: Performance of a distributed stochastic
        approximation algorithm, IEEE TIT 59 (2013), arXiv:1203.1505.
    """

    active: Literal["half", "all"] = "all"

    def combine(self, k: int, events: Events) -> bool:
        """Begin when all averages have been taken."""
        return super().combine(k, events) and not events.memory["waits"][k]
