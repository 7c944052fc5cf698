"""Measures of points and networks, one file per family."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

from basinet.analysis.measures.disagreement import CostOfDisagreement, ImplicitRegularization
from basinet.analysis.measures.m_sharpness import MSharpness
from basinet.analysis.measures.matrix_spectra import FisherSpectrum, GaussNewtonSpectrum, HessianSpectrum
from basinet.analysis.measures.measure import Found, Measure, Needs, NetworkMeasure, PointMeasure
from basinet.analysis.measures.measured import Network, Points
from basinet.analysis.measures.noise import NoiseCurvature
from basinet.analysis.measures.relative_flatness import RelativeFlatness
from basinet.analysis.measures.risk import BasinDescent, NewtonDecrement
from basinet.analysis.measures.shapes import AgentBarriers, LossSlices, LossSurface, RandomPlane
from basinet.analysis.measures.sharpness import (
    AdaptiveAverageSharpness,
    AdaptiveSharpness,
    AverageSharpness,
    PacBayesSigma,
    WorstSharpness,
)
from basinet.analysis.measures.stability import StabilityLimit
from basinet.analysis.measures.tail_index import GradientTail

__all__ = ["DEFAULT", "MEASURES", "Found", "Measure", "Needs", "Network", "NetworkMeasure", "PointMeasure", "Points"]

_ORDER: tuple[type[Measure], ...] = (
    HessianSpectrum,
    NoiseCurvature,
    GaussNewtonSpectrum,
    FisherSpectrum,
    AverageSharpness,
    AdaptiveAverageSharpness,
    RelativeFlatness,
    WorstSharpness,
    AdaptiveSharpness,
    PacBayesSigma,
    MSharpness,
    BasinDescent,
    NewtonDecrement,
    GradientTail,
    StabilityLimit,
    CostOfDisagreement,
    ImplicitRegularization,
    LossSlices,
    LossSurface,
    RandomPlane,
    AgentBarriers,
)

"""Order in which measures are taken, and of their values in a row; others in this folder follow."""


def _found() -> Iterator[type[Measure]]:
    """Import the modules of this folder, and yield the measures in them."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            is_own = isinstance(thing, type) and thing.__module__ == module.name and name[0] != "_"
            if is_own and issubclass(thing, Measure) and not inspect.isabstract(thing):
                yield thing


MEASURES: dict[str, type[Measure]] = {
    name: measure for measure in dict.fromkeys((*_ORDER, *_found())) for name in measure.quantities
}
"""Measures by their names in an experiment, in the order in which they are taken."""

DEFAULT = ("hessian_trace", "hessian_top_eigenvalue", "excess_risk")
"""Measures taken by default."""
