"""Links: the products with W and the neighbours of each step, without what does not arrive."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.agents.messages.edges import KINDS_OF_EDGES
from basinet.sim.agents.messages.mixer import Mixer
from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.agents.messages.plans import Plans
from basinet.sim.agents.messages.wire import Wire
from basinet.sim.agents.placement import Placement
from basinet.sim.faults.outages import Outages
from basinet.sim.setup.setup import Setup

__all__ = ["Links"]

T = TypeVar("T")


class Links:
    """The edges of each step, along which rows are mixed or heard one by one.

    Args:
        setup: The parts of the run.
        placement: The rows of this worker.
        like: The parameters of these rows.
        wire: Carries rows to other workers.
        pool: Threads that share a product, if there are several.

    Attributes:
        outages: What does not arrive, and who is absent.
        columns: The kinds of edges whose weights sum to one over what an agent sends.
    """

    def __init__(
        self, setup: Setup, placement: Placement, like: Tensor, wire: Wire, pool: ThreadPoolExecutor | None
    ) -> None:
        sequences = {"graph": setup.sequence, "reverse": setup.push}
        self.columns = KINDS_OF_EDGES if StrategyTraits.of(setup.strategy()).weights == "columns" else ("reverse",)
        sizes = {"agents": setup.num_agents, "replicas": setup.config.replicas}
        self.outages = Outages(
            setup.faults, sequences, network=setup.network, columns=self.columns, **sizes, seed=setup.config.seed
        )
        thread: Executor = ThreadPoolExecutor(1, "plans")
        copies = len(placement.rows) / placement.agents

        def plans(make: Callable[[csr_array], T]) -> dict[str, Plans[T]]:
            return {kind: Plans(matrices, make, thread, copies=copies) for kind, matrices in sequences.items()}

        self._mixers = plans(lambda weights: Mixer(weights, placement, like, pool))
        self._positive_mixers = plans(lambda weights: Mixer(weights, placement, like, pool, differences=False))
        self._neighbors = plans(lambda weights: Neighbors(weights, placement, like, wire))
        self._hearing: dict[str, tuple[int, Neighbors]] = {}

    def mixer(self, kind: str, step: int, *, positive: bool = False) -> Mixer:
        """Return the product with W at a step.

        Args:
            kind: The kind of edges.
            step: The step.
            positive: Whether it is for second moments and variances, which must not become negative.

        Returns:
            The product of what arrives.
        """
        mixer = (self._positive_mixers if positive else self._mixers)[kind].at(step)
        outage = self.outages.at(kind, step)
        return mixer if outage is None else mixer.without(outage)

    def all_neighbors(self, kind: str, step: int) -> Neighbors:
        """Return the agents' neighbours at a step, in slots, whatever arrives.

        Args:
            kind: The kind of edges.
            step: The step.

        Returns:
            The neighbours.
        """
        return self._neighbors[kind].at(step)

    def neighbors(self, kind: str, step: int) -> Neighbors:
        """Return the agents' neighbours at a step, in slots; those whose messages do not arrive are not heard.

        Args:
            kind: The kind of edges.
            step: The step.

        Returns:
            The same neighbours each time in a step.
        """
        outage = self.outages.at(kind, step)
        if outage is None:
            return self.all_neighbors(kind, step)
        if kind not in self._hearing or self._hearing[kind][0] != step:
            self._hearing[kind] = step, self.all_neighbors(kind, step).without(outage)
        return self._hearing[kind][1]
