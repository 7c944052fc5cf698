"""The edges along which agents send."""

import numpy as np
from scipy.sparse import csr_array

from basinet.sim.setup.setup import Setup

__all__ = ["KINDS_OF_EDGES", "num_messages"]

KINDS_OF_EDGES = ("graph", "reverse", "server")
"""The edges along which agents send: those of W, those of the weights whose columns sum to one, and those of a star."""


def num_messages(setup: Setup) -> dict[str, list[int]]:
    """Count the messages of a step along each kind of edge.

    Args:
        setup: The parts of the run.

    Returns:
        Their number in the steps of a period, by kind; nothing for edges that the run does not have.
    """
    return {
        "graph": list(map(_off_diagonal, setup.sequence)),
        "reverse": list(map(_off_diagonal, setup.push)),
        "server": [_off_diagonal(_star(setup.num_agents))],
    }


def _off_diagonal(weights: csr_array) -> int:
    entries = weights.tocoo()
    return int(((entries.row != entries.col) & (entries.data != 0)).sum())


def _star(agents: int) -> csr_array:
    """Connect all agents with a server, both ways."""
    each, server = np.arange(agents), np.full(agents, agents)
    places = np.concatenate([each, server]), np.concatenate([server, each])
    return csr_array((np.ones(2 * agents), places), shape=(agents + 1, agents + 1))
