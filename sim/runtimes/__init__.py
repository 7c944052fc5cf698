"""Runtimes: the ways in which the workers of a run are started. The algorithms cannot tell them apart."""

__all__ = ["RUNTIMES"]

RUNTIMES = {
    "inline": "basinet.sim.runtimes.inline:Inline",
    "ray": "basinet.sim.runtimes.ray:Ray",
    "torchrun": "basinet.sim.runtimes.torchrun:Torchrun",
}
"""The class of each runtime by its name, as `module:class`: a module is imported once a run asks for it."""
