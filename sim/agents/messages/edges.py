"""The edges along which agents send."""

from basinet.sim.setup.setup import Setup
from basinet.topologies.mixing_matrix import edges_of

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
        "graph": [len(edges_of(weights)[0]) for weights in setup.sequence],
        "reverse": [len(edges_of(weights)[0]) for weights in setup.push],
        "server": [2 * setup.num_agents],  # all agents send to it, and hear from it
    }
