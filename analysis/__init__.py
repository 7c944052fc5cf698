"""Analysis: curvature of any torch model; measures, summaries, figures and reports of finished runs.

The curvature suite needs no run and no agents, but a model, a loss and data:

>>> import torch
>>> from basinet.analysis import hessian_operator, spectrum, top_eigenvalues, trace
>>> model, inputs, targets = torch.nn.Linear(3, 1, bias=False).double(), torch.eye(3), torch.zeros(3, 1)
>>> H = hessian_operator(model, torch.nn.MSELoss(), (inputs, targets))  # or a DataLoader
>>> round(trace(H).value, 6), top_eigenvalues(H, 1).values.round(6), round(spectrum(H).frobenius_norm, 6)
(2.0, array([0.666667]), 1.154701)
"""

from typing import TYPE_CHECKING

from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.analysis.curvature.hessian import (
        CurvatureOperator,
        FisherOperator,
        GaussNewtonOperator,
        HessianOperator,
        hessian_matrix,
    )
    from basinet.analysis.curvature.plain import fisher_operator, gauss_newton_operator, hessian_operator
    from basinet.analysis.curvature.spectral import Density, Spectrum, spectrum
    from basinet.analysis.curvature.top_eigenvalues import Ritz, top_eigenvalues
    from basinet.analysis.curvature.trace import Estimate, trace
    from basinet.analysis.statistics.paired import PairedDifference, paired_differences
    from basinet.analysis.statistics.summary import summarize
    from basinet.analysis.statistics.survival import kaplan_meier, mean_time

__all__ = [
    "CurvatureOperator",
    "Density",
    "Estimate",
    "FisherOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "PairedDifference",
    "Ritz",
    "Spectrum",
    "fisher_operator",
    "gauss_newton_operator",
    "hessian_matrix",
    "hessian_operator",
    "kaplan_meier",
    "mean_time",
    "paired_differences",
    "spectrum",
    "summarize",
    "top_eigenvalues",
    "trace",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.analysis.curvature.top_eigenvalues": ("Ritz", "top_eigenvalues"),
        "basinet.analysis.curvature.hessian": (
            "CurvatureOperator",
            "FisherOperator",
            "GaussNewtonOperator",
            "HessianOperator",
            "hessian_matrix",
        ),
        "basinet.analysis.curvature.plain": ("fisher_operator", "gauss_newton_operator", "hessian_operator"),
        "basinet.analysis.curvature.spectral": ("Density", "Spectrum", "spectrum"),
        "basinet.analysis.curvature.trace": ("Estimate", "trace"),
        "basinet.analysis.statistics.paired": ("PairedDifference", "paired_differences"),
        "basinet.analysis.statistics.summary": ("summarize",),
        "basinet.analysis.statistics.survival": ("kaplan_meier", "mean_time"),
    },
)
