"""Basinet: distributed training on graphs, and how flat the minima are that it finds."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from basinet.launch.api import Results, compare, run
    from basinet.sim.experiment import Experiment

__all__ = ["Experiment", "Results", "__version__", "compare", "run"]

_HOMES = {
    "Experiment": "basinet.sim.experiment",
    "Results": "basinet.launch.api",
    "compare": "basinet.launch.api",
    "run": "basinet.launch.api",
}


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import: the headline names are fetched when first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'basinet' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
