"""What replicas have spent on training when they were measured."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from basinet.analysis.statistics.run_labels import setting
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import Quantity

__all__ = ["EFFORTS", "RECORDED", "samples_a_step", "spent"]

EFFORTS = {
    "step": Quantity("steps", "steps"),
    "samples": Quantity("samples", "samples"),
    "bytes": Quantity("communication", "bytes", unit="bytes"),
    "seconds": Quantity("time", "seconds", unit="s"),
    "simulated_time": Quantity("simulated time", "simulated seconds", unit="s"),
}
"""What is counted, of all agents together. Times are those that a run has recorded, if it has."""


RECORDED = ("communicated_bytes", "seconds", "simulated_time")
"""Metrics that these are computed from, besides the step."""


def spent(run: Run, measured: Mapping[str, ArrayLike], what: str) -> NDArray[np.float64]:
    """Compute what replicas have spent when they were measured.

    Args:
        run: Their run.
        measured: The measurements by metric: numbers, or columns of them.
        what: One of `EFFORTS`; or another metric, which is taken as it is.

    Returns:
        The amounts in the shape of the measurements; NaN if it was not recorded.
    """
    if what != "samples":
        return np.asarray(measured.get("communicated_bytes" if what == "bytes" else what, math.nan), dtype=float)
    each = samples_a_step(run.config, run.status)
    return np.asarray(np.asarray(measured.get("step", math.nan), dtype=float) * each)


def samples_a_step(config: Mapping[str, Any], status: Mapping[str, Any]) -> float:
    """Count the samples that all agents together draw at a step.

    Args:
        config: The resolved experiment of a run.
        status: What the run says of itself.

    Returns:
        Their number; NaN if it is not known.
    """
    agents = status.get("agents") or setting(config, "topology.agents") or math.nan
    return float(config.get("batch_size", math.nan) * agents)
