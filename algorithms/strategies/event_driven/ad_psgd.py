"""AD-PSGD: agents average with one neighbour at a time, while they compute."""

from dataclasses import dataclass
from typing import Literal

import networkx as nx
from scipy.sparse import csr_array, diags_array

from basinet.algorithms.strategies.event_driven.events import Count, EventDriven, Events, Row
from basinet.algorithms.strategies.strategy import STRATEGIES

__all__ = ["ADPSGD"]


@STRATEGIES.register("ad_psgd")
@dataclass(frozen=True)
class ADPSGD(EventDriven):
    """Asynchronous decentralized parallel SGD: after each gradient, an agent averages with a random neighbour.

    When agent k has finished a gradient, which it began at a copy of its parameters: x_k ← adapt(x_k, g_k(copy)). Then
    it asks a neighbour l, drawn uniformly, for x_k, x_l ← (x_k + x_l) / 2, and computes on meanwhile. The neighbour
    averages when it is asked, and answers with what it had. Who has asked does not ask again until then, and averages
    with one of those who ask it. The agents' mean changes by their gradients only; without these it is randomized
    gossip. Of the mixing weights it only uses whether they are zero.

    It minimises Σ_k r_k J_k, with r_k the rate at which agent k finishes gradients: fast agents count more.

    Args:
        active: Who asks: "half", the agents on one side of a bipartite graph, so that nobody who waits is asked; or
            "all" of any graph.
        period: Gradients between the times at which an agent asks.
        averages: How many neighbours it then asks, one after another.

    References:
        X. Lian, W. Zhang, C. Zhang, J. Liu: Asynchronous decentralized parallel stochastic gradient descent, ICML 2018,
        arXiv:1710.06952. S. Boyd, A. Ghosh, B. Prabhakar, D. Shah: Randomized gossip algorithms, IEEE TIT 52 (2006),
        doi:10.1109/TIT.2006.874516.
    """

    active: Literal["half", "all"] = "half"
    period: Count = 1
    averages: Count = 1

    def check(self, weights: csr_array) -> None:
        """Raise if an edge has one direction only, or the agents have no two sides where these are needed."""
        edges = csr_array(weights - diags_array(weights.diagonal()) != 0)
        if (edges != edges.T).nnz:
            raise ValueError("needs an undirected graph, since two agents average with each other")
        if self.active == "half" and not nx.is_bipartite(nx.from_scipy_sparse_array(edges)):
            raise ValueError("needs a bipartite graph, such as a ring of an even number of agents, or active: all")

    def begin(self, events: Events) -> None:
        """Choose who asks."""
        asks = [True] * events.agents
        if self.active == "half":
            graph = nx.Graph((k, other) for k, heard in enumerate(events.heard) for other, _ in heard)
            sides = nx.bipartite.color(graph)
            asks = [sides.get(k) == sides.get(0) for k in range(events.agents)]
        events.memory["asks"] = asks
        for name in ("left", "waits", "served", "changes", "copied"):
            events.memory[name] = [0] * events.agents

    def finish(self, k: int, events: Events) -> None:
        """x_k ← adapt(x_k, g_k(copy)), and ask a neighbour."""
        memory = events.memory
        events.stale(memory["changes"][k] - memory["copied"][k])
        events.x[k] = events.adapt(k)
        if events.heard[k] and memory["asks"][k] and not memory["waits"][k] and events.finished[k] % self.period == 0:
            memory["left"][k] = self.averages
            self._ask(k, events)

    def _ask(self, k: int, events: Events) -> None:
        """Ask a neighbour, if averages are left."""
        memory, heard = events.memory, events.heard[k]
        if memory["left"][k]:
            neighbour = events.choose(k, len(heard), self.averages - memory["left"][k])
            memory["left"][k] -= 1
            memory["waits"][k], memory["served"][k] = 1, 0
            events.send(k, heard[neighbour][0], (events.x[k],))

    def arrive(self, k: int, sender: int, message: tuple[Row, ...] | None, events: Events) -> None:
        """Average with who asks, or take an answer."""
        memory, x = events.memory, events.x
        if message is not None and len(message) == 1:
            self._asked(k, sender, *message, events)
            return
        memory["waits"][k] = 0
        if message is not None:  # x_k ← x_k + (x_l − what was asked with) / 2
            asked, own, mean = message
            x[k] = mean if x[k] is asked else events.mix(k, x[k], [(0.5, own), (-0.5, asked)])
            memory["changes"][k] += 1
        self._ask(k, events)

    def _asked(self, k: int, sender: int, asked: Row, events: Events) -> None:
        """x_k ← (x_k + x_l) / 2, unless the agent waits, too, and has averaged meanwhile."""
        memory, x = events.memory, events.x
        if memory["waits"][k] and memory["served"][k]:
            events.send(k, sender, None)
            return
        own, x[k] = x[k], events.mix(k, x[k], [(0.5, asked)])
        events.send(k, sender, (asked, own, x[k]))
        memory["served"][k] = 1
        memory["changes"][k] += 1

    def lose(self, k: int, sender: int, message: tuple[Row, ...], events: Events) -> None:
        """Do not average if a question is lost, and send an answer again, so that the mean is kept."""
        if len(message) == 1:
            events.send(k, sender, None)
        else:
            events.send(sender, k, message)

    def combine(self, k: int, events: Events) -> bool:
        """Begin at a copy of what there is."""
        events.memory["copied"][k] = events.memory["changes"][k]
        return True
