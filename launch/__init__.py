"""Entry points: command line, experiment files, Python interface."""

from typing import TYPE_CHECKING

from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.launch.api import run
    from basinet.launch.generating import generate
    from basinet.launch.results import Results, compare, export, load
    from basinet.launch.scoring_videos import score_videos
    from basinet.launch.upscaling import upscale

__all__ = ["Results", "compare", "export", "generate", "load", "run", "score_videos", "upscale"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.launch.api": ("run",),
        "basinet.launch.generating": ("generate",),
        "basinet.launch.results": ("Results", "compare", "export", "load"),
        "basinet.launch.scoring_videos": ("score_videos",),
        "basinet.launch.upscaling": ("upscale",),
    },
)
