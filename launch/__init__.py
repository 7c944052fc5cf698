"""The way in: command line, experiment files, Python interface."""

from typing import TYPE_CHECKING

from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.launch.api import Results, compare, load, run

__all__ = ["Results", "compare", "load", "run"]

__getattr__, __dir__ = lazy(__name__, {"basinet.launch.api": ("Results", "compare", "load", "run")})
