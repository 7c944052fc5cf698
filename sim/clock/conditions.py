"""Networks and laws of compute time other than those of a run: its training knows nothing of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from basinet.sim.clock.pass_cost import law_of
from basinet.sim.experiment.config import Config
from basinet.sim.setup.setup import Setup

__all__ = ["under"]


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
    network = None if config.network is None else config.network.component.make(graph=setup.graph)
    parts = replace(setup, config=config, network=network)
    return replace(parts, compute=law_of(parts, pass_seconds))
