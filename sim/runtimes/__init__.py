"""Runtimes: the ways to start the workers of a run, which make no difference to the algorithms."""

__all__ = ["ON_RANKS", "RUNTIMES"]

RUNTIMES = {
    "inline": "basinet.sim.runtimes.inline:Inline",
    "ray": "basinet.sim.runtimes.on_ray.ray:Ray",
    "torchrun": "basinet.sim.runtimes.torchrun:Torchrun",
}
"""The class of each runtime by name, as `module:class`; the module is imported when a run asks for it."""

ON_RANKS = frozenset({"torchrun"})
"""Those whose workers another command starts, as processes that all execute the experiment."""
