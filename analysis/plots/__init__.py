"""Figures: each a function `plot_x(data, *, ax=None, ...) -> Axes` and nothing else."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from basinet.analysis.drawing.style import panels
    from basinet.analysis.plots.agents import plot_agents
    from basinet.analysis.plots.consensus_distance import plot_consensus
    from basinet.analysis.plots.curves import plot_curves
    from basinet.analysis.plots.density import plot_spectra
    from basinet.analysis.plots.flatness_accuracy import plot_flatness_accuracy
    from basinet.analysis.plots.iso_accuracy import plot_iso_accuracy
    from basinet.analysis.plots.loss_landscape import (
        plot_barriers,
        plot_density,
        plot_slices,
        plot_solutions,
        plot_stability,
        plot_surface,
    )
    from basinet.analysis.plots.mixing_spectrum import plot_spectrum
    from basinet.analysis.plots.partition import plot_partition
    from basinet.analysis.plots.predicted_risk import plot_prediction
    from basinet.analysis.plots.risk_flatness import plot_risk_flatness
    from basinet.analysis.plots.survival_curves import plot_survival
    from basinet.analysis.plots.tail_indices import plot_tail_index
    from basinet.analysis.plots.topology import plot_topology
    from basinet.analysis.plots.trajectory_plane import plot_trajectories

__all__ = [
    "panels",
    "plot_agents",
    "plot_barriers",
    "plot_consensus",
    "plot_curves",
    "plot_density",
    "plot_flatness_accuracy",
    "plot_iso_accuracy",
    "plot_partition",
    "plot_prediction",
    "plot_risk_flatness",
    "plot_slices",
    "plot_solutions",
    "plot_spectra",
    "plot_spectrum",
    "plot_stability",
    "plot_surface",
    "plot_survival",
    "plot_tail_index",
    "plot_topology",
    "plot_trajectories",
]

_HOMES = {
    "panels": "basinet.analysis.drawing.style",
    **dict.fromkeys(
        ("plot_barriers", "plot_slices", "plot_solutions", "plot_stability", "plot_surface", "plot_density"),
        "basinet.analysis.plots.loss_landscape",
    ),
    "plot_consensus": "basinet.analysis.plots.consensus_distance",
    "plot_prediction": "basinet.analysis.plots.predicted_risk",
    "plot_spectra": "basinet.analysis.plots.density",
    "plot_spectrum": "basinet.analysis.plots.mixing_spectrum",
    "plot_survival": "basinet.analysis.plots.survival_curves",
    "plot_tail_index": "basinet.analysis.plots.tail_indices",
    "plot_trajectories": "basinet.analysis.plots.trajectory_plane",
}
"""Modules of those that are not called as they are."""


def __getattr__(name: str) -> Any:
    # Matplotlib takes a second to import: the tables, which need the names of runs only, do without it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    home = _HOMES.get(name, f"{__name__}.{name.removeprefix('plot_')}")
    return getattr(importlib.import_module(home), name)
