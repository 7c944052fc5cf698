"""Basinet: distributed training on graphs, and how flat the minima are that it finds."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from basinet.launch.api import run
    from basinet.launch.results import Results, compare, load
    from basinet.sim.experiment.experiment import Experiment
    from basinet.sim.run.simulation import Interrupted, RunFailed

__all__ = ["Experiment", "Interrupted", "Results", "RunFailed", "__version__", "compare", "load", "run"]

_HOMES = {
    "Experiment": "basinet.sim.experiment.experiment",
    "Interrupted": "basinet.sim.run.simulation",
    "Results": "basinet.launch.results",
    "RunFailed": "basinet.sim.run.simulation",
    "compare": "basinet.launch.results",
    "load": "basinet.launch.results",
    "run": "basinet.launch.api",
}


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import: the headline names are fetched when first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'basinet' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
