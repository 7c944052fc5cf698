"""Basinet: distributed training on graphs, and the flatness of the minima it finds."""

from typing import TYPE_CHECKING

from basinet.exports import lazy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from basinet.analysis.compare.comparison import compare
    from basinet.launch.api import run
    from basinet.launch.finished.challenging import challenge
    from basinet.launch.finished.generating import generate
    from basinet.launch.results import Results, export, load
    from basinet.launch.finished.scoring_files import score
    from basinet.launch.finished.upscaling import upscale
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
        "basinet.analysis.compare.comparison": ("compare",),
        "basinet.launch.api": ("run",),
        "basinet.launch.finished.challenging": ("challenge",),
        "basinet.launch.finished.generating": ("generate",),
        "basinet.launch.results": ("Results", "export", "load"),
        "basinet.launch.finished.scoring_files": ("score",),
        "basinet.launch.finished.upscaling": ("upscale",),
        "basinet.sim.experiment.experiment": ("Experiment",),
        "basinet.sim.experiment.pipeline": ("Pipeline",),
        "basinet.sim.run.simulation": ("Interrupted", "RunFailed"),
    },
)
