"""Figures: functions `plot_x(data, *, ax=None, ...) -> Axes`."""

from typing import TYPE_CHECKING

from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.analysis.drawing.panels import panels
    from basinet.analysis.plots.agents import plot_agents
    from basinet.analysis.plots.compared.compared_curves import plot_compared_curves
    from basinet.analysis.plots.compared.compared_figures import comparison_figure
    from basinet.analysis.plots.compared.compared_points import plot_compared_points
    from basinet.analysis.plots.compared.heat_map import plot_heat_map
    from basinet.analysis.plots.compared.parallel_coordinates import plot_parallel
    from basinet.analysis.plots.compared.trends import plot_trend
    from basinet.analysis.plots.curves import plot_consensus, plot_curves
    from basinet.analysis.plots.density import plot_density, plot_spectra
    from basinet.analysis.plots.forecasts import plot_forecasts
    from basinet.analysis.plots.loss_landscape import plot_barriers, plot_slices, plot_solutions, plot_surface
    from basinet.analysis.plots.network.timeline_chart import plot_timeline
    from basinet.analysis.plots.network.topology import plot_spectrum, plot_topology
    from basinet.analysis.plots.partition import plot_partition
    from basinet.analysis.plots.predicted_risk import plot_prediction
    from basinet.analysis.plots.replica_marks import plot_stability, plot_tail_index
    from basinet.analysis.plots.scatter import (
        plot_flatness_accuracy,
        plot_iso_accuracy,
        plot_risk_flatness,
        plot_scatter,
    )
    from basinet.analysis.plots.survival_curves import plot_survival
    from basinet.analysis.plots.trajectory_plane import plot_trajectories
    from basinet.analysis.plots.vision.phase_recognition import plot_confusion, plot_phases
    from basinet.analysis.plots.vision.reconstructions import plot_reconstructions
    from basinet.analysis.plots.vision.restorations import plot_restorations

__all__ = [
    "comparison_figure",
    "panels",
    "plot_agents",
    "plot_barriers",
    "plot_compared_curves",
    "plot_compared_points",
    "plot_confusion",
    "plot_consensus",
    "plot_curves",
    "plot_density",
    "plot_flatness_accuracy",
    "plot_forecasts",
    "plot_heat_map",
    "plot_iso_accuracy",
    "plot_parallel",
    "plot_partition",
    "plot_phases",
    "plot_prediction",
    "plot_reconstructions",
    "plot_restorations",
    "plot_risk_flatness",
    "plot_scatter",
    "plot_slices",
    "plot_solutions",
    "plot_spectra",
    "plot_spectrum",
    "plot_stability",
    "plot_surface",
    "plot_survival",
    "plot_tail_index",
    "plot_timeline",
    "plot_topology",
    "plot_trajectories",
    "plot_trend",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.analysis.drawing.panels": ("panels",),
        "basinet.analysis.plots.agents": ("plot_agents",),
        "basinet.analysis.plots.compared.compared_curves": ("plot_compared_curves",),
        "basinet.analysis.plots.compared.compared_figures": ("comparison_figure",),
        "basinet.analysis.plots.compared.compared_points": ("plot_compared_points",),
        "basinet.analysis.plots.compared.heat_map": ("plot_heat_map",),
        "basinet.analysis.plots.compared.parallel_coordinates": ("plot_parallel",),
        "basinet.analysis.plots.compared.trends": ("plot_trend",),
        "basinet.analysis.plots.curves": ("plot_consensus", "plot_curves"),
        "basinet.analysis.plots.density": ("plot_density", "plot_spectra"),
        "basinet.analysis.plots.forecasts": ("plot_forecasts",),
        "basinet.analysis.plots.loss_landscape": ("plot_barriers", "plot_slices", "plot_solutions", "plot_surface"),
        "basinet.analysis.plots.partition": ("plot_partition",),
        "basinet.analysis.plots.vision.phase_recognition": ("plot_confusion", "plot_phases"),
        "basinet.analysis.plots.predicted_risk": ("plot_prediction",),
        "basinet.analysis.plots.replica_marks": ("plot_stability", "plot_tail_index"),
        "basinet.analysis.plots.vision.reconstructions": ("plot_reconstructions",),
        "basinet.analysis.plots.vision.restorations": ("plot_restorations",),
        "basinet.analysis.plots.scatter": (
            "plot_flatness_accuracy",
            "plot_iso_accuracy",
            "plot_risk_flatness",
            "plot_scatter",
        ),
        "basinet.analysis.plots.survival_curves": ("plot_survival",),
        "basinet.analysis.plots.network.timeline_chart": ("plot_timeline",),
        "basinet.analysis.plots.network.topology": ("plot_spectrum", "plot_topology"),
        "basinet.analysis.plots.trajectory_plane": ("plot_trajectories",),
    },
)
