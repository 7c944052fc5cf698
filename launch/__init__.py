"""Entry points: command line, experiment files, Python interface."""

from typing import TYPE_CHECKING

from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.launch.api import run
    from basinet.launch.challenging import challenge
    from basinet.launch.generating import generate
    from basinet.launch.results import Results, compare, export, load
    from basinet.launch.scoring_files import score
    from basinet.launch.upscaling import upscale

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
        "basinet.launch.api": ("run",),
        "basinet.launch.challenging": ("challenge",),
        "basinet.launch.generating": ("generate",),
        "basinet.launch.results": ("Results", "compare", "export", "load"),
        "basinet.launch.scoring_files": ("score",),
        "basinet.launch.upscaling": ("upscale",),
    },
)
