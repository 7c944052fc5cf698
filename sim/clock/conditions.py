"""Networks and laws of compute time other than those of a run: its training knows nothing of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import networkx as nx

from basinet.sim.clock.pass_cost import law_of
from basinet.sim.experiment.config import Config
from basinet.sim.setup.setup import Setup
from basinet.topologies.networks import Network

__all__ = ["network_on", "under"]


def network_on(config: Config, graph: nx.Graph) -> Network | None:
    """Make the network of a run.

    Args:
        config: The run.
        graph: Its graph, whose edges need links.

    Returns:
        The network; None if messages take no time.

    Raises:
        ExperimentError: It is described wrongly.
    """
    if config.network is None:
        return None
    network: Network = config.network.component.make(graph=graph)
    return network


def under(setup: Setup, given: Mapping[str, Any], pass_seconds: float | None = None) -> Setup:
    """Return the parts of a run under another network and law of compute time.

    Args:
        setup: The parts, with the data flow.
        given: `network` and `compute` as an experiment describes them; what is missing takes no time.
        pass_seconds: What the gradient of a batch took when it was measured, if it was.

    Returns:
        The parts.

    Raises:
        ExperimentError: One is described wrongly.
    """
    parsed = Config.parse({"task": "digits", "topology": "ring", "strategy": "isolated", **given})
    config = setup.config.model_copy(update={"network": parsed.network, "compute": parsed.compute})
    parts = replace(setup, config=config, network=network_on(config, setup.graph))
    return replace(parts, compute=law_of(parts, pass_seconds))
