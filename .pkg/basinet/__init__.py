"""Basinet: distributed training on graphs, and the flatness of the minima it finds."""

from typing import TYPE_CHECKING

from basinet.exports import lazy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from basinet.launch.api import run
    from basinet.launch.challenging import challenge
    from basinet.launch.generating import generate
    from basinet.launch.results import Results, compare, export, load
    from basinet.launch.scoring_files import score
    from basinet.launch.upscaling import upscale
    from basinet.sim.experiment.experiment import Experiment
    from basinet.sim.experiment.pipeline import Pipeline
    from basinet.sim.run.simulation import Interrupted, RunFailed

__all__ = [
    "PLUGGED",
    "Experiment",
    "Interrupted",
    "Pipeline",
    "Results",
    "RunFailed",
    "__version__",
    "challenge",
    "compare",
    "export",
    "generate",
    "load",
    "run",
    "score",
    "upscale",
]

PLUGGED = {
    "metrics": "basinet.analysis.metrics:METRICS",
    "default metrics": "basinet.analysis.metrics:default_metrics",
    "torch metric": "basinet.analysis.metrics:TorchMetric",
    "measures": "basinet.analysis.measures:MEASURES",
    "default analysis": "basinet.analysis.measures:DEFAULT",
}
"""Objects of higher rooms used by lower ones, which import them on first use."""

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.launch.api": ("run",),
        "basinet.launch.challenging": ("challenge",),
        "basinet.launch.generating": ("generate",),
        "basinet.launch.results": ("Results", "compare", "export", "load"),
        "basinet.launch.scoring_files": ("score",),
        "basinet.launch.upscaling": ("upscale",),
        "basinet.sim.experiment.experiment": ("Experiment",),
        "basinet.sim.experiment.pipeline": ("Pipeline",),
        "basinet.sim.run.simulation": ("Interrupted", "RunFailed"),
    },
)
