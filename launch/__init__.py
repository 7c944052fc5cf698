"""Entry points: command line, experiment files, Python interface."""

from typing import TYPE_CHECKING

from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.analysis.compare.comparison import compare
    from basinet.launch.api import run
    from basinet.launch.finished.challenging import challenge
    from basinet.launch.finished.generating import generate
    from basinet.launch.finished.scoring_files import score
    from basinet.launch.finished.upscaling import upscale
    from basinet.launch.results import Results, export, load

__all__ = [
    "Results",
    "challenge",
    "compare",
    "export",
    "generate",
    "load",
    "run",
    "score",
    "upscale",
]

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
    },
)
