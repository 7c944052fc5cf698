"""Basinet: distributed training on graphs, and how flat the minima are that it finds."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from basinet.launch.api import Results, compare, load, run
    from basinet.sim.experiment.experiment import Experiment
    from basinet.sim.run.simulation import Interrupted, RunFailed

__all__ = ["PLUGGED", "Experiment", "Interrupted", "Results", "RunFailed", "__version__", "compare", "load", "run"]

PLUGGED = {
    "measures": "basinet.analysis.measures:MEASURES",
    "default analysis": "basinet.analysis.measures:DEFAULT",
}
"""What rooms plug into those below them, which import it when they first use it."""

_HOMES = {
    "Experiment": "basinet.sim.experiment.experiment",
    "Interrupted": "basinet.sim.run.simulation",
    "Results": "basinet.launch.api",
    "RunFailed": "basinet.sim.run.simulation",
    "compare": "basinet.launch.api",
    "load": "basinet.launch.api",
    "run": "basinet.launch.api",
}


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import: the headline names are fetched when first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'basinet' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
