"""Networks and laws of compute time other than those of a run: its training knows nothing of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from basinet.sim.experiment.config import Config
from basinet.sim.setup.setup import Setup

__all__ = ["under"]


def under(setup: Setup, given: Mapping[str, Any]) -> Setup:
    """Return the parts of a run under another network and law of compute time.

    Args:
        setup: The parts, with the data flow.
        given: `network` and `compute` as an experiment describes them; what is missing takes no time.

    Returns:
        The parts.

    Raises:
        ExperimentError: One is described wrongly.
    """
    parsed = Config.parse({"task": "digits", "topology": "ring", "strategy": "isolated", **given})
    config = setup.config.model_copy(update={"network": parsed.network, "compute": parsed.compute})
    network = None if config.network is None else config.network.component.make(graph=setup.graph)
    return replace(setup, config=config, network=network)
