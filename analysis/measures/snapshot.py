"""A snapshot of the Hessian: one Krylov run and a few probes, as long and as many as the measures wanted of it need."""

from collections.abc import Set

import torch
from torch import Tensor

from basinet.analysis.curvature.krylov import Krylov
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.scales import scales, split
from basinet.analysis.curvature.spectral import Spectrum, spectra
from basinet.analysis.runs.effort import FULL, Effort

__all__ = ["EIGENVALUES", "KRYLOV", "NUM_EIGENVALUES", "NUM_EIGENVECTORS", "PROBED", "TOL", "take_snapshot"]

NUM_EIGENVALUES = 5
"""How many eigenvalues there are at either end of `hessian_eigenvalues`, and top eigenvectors for the disagreement."""

NUM_EIGENVECTORS = 2
"""How many eigenvectors the loss is cut along."""

TOL = 1e-3
"""Residual of an eigenvalue that is small enough, as a part of it; of the largest at the bottom."""

EIGENVALUES = frozenset(
    {"hessian_top_eigenvalue", "hessian_bottom_eigenvalue", "hessian_eigenvalues", "hessian_condition_number"}
)
PROBED = frozenset(
    {
        "hessian_trace",
        "hessian_frobenius_norm",
        "hessian_effective_rank",
        "hessian_layer_traces",
        "adaptive_trace",
        "filter_normalized_trace",
    }
)
"""Measures of the Hessian that take probes."""

_TRACED = PROBED | {"noise_alignment", "disagreement_alignment"}

KRYLOV = (
    EIGENVALUES
    | _TRACED
    | {"hessian_density", "gradient_noise_trace", "noise_curvature", "loss_slices"}
    | {"gauss_newton_trace", "gauss_newton_top_eigenvalue", "fisher_trace", "fisher_top_eigenvalue"}
)
"""Measures that need a Krylov basis, which is the memory of the analysis."""


def take_snapshot(
    hessian: Curvature, keys: Tensor, wanted: Set[str], *, max_steps: int, effort: Effort = FULL
) -> tuple[Krylov, list[Spectrum]]:
    """Take a snapshot at many points.

    Args:
        hessian: The Hessians, at N points.
        keys: Keys of the random draws, int64 [N].
        wanted: Names of measures.
        max_steps: Largest number of Lanczos steps.
        effort: How much work to put in.

    Returns:
        The Krylov bases, and the spectra. Their readings are the traces of the layers' blocks, then Σ s_i² H_ii with
        the scales s of the parameters, and with those of the filters.
    """
    size = hessian.points.shape[1]
    shapes = hessian.objective.shapes
    squares = [scales(hessian.points.double(), shapes, kind).square() for kind in ("adaptive", "filter")]

    def readings(diagonals: Tensor) -> Tensor:
        layers = [part.view(len(part), -1).sum(1) for part in split(diagonals, shapes).values()]
        return torch.stack([*layers, *((diagonals * square).sum(1) for square in squares)], 1)

    top = bottom = 0
    if wanted & {"hessian_eigenvalues", "disagreement_alignment"}:
        top = NUM_EIGENVALUES
    elif "loss_slices" in wanted:
        top = NUM_EIGENVECTORS
    if "hessian_eigenvalues" in wanted:
        bottom = NUM_EIGENVALUES
    elif wanted & {"hessian_bottom_eigenvalue", "hessian_condition_number"}:
        bottom = 1
    return spectra(
        hessian.products,
        keys,
        size,
        top=min(size, max(1, top)),
        bottom=min(size, bottom),
        tol=TOL,
        steps=effort.lanczos_steps[0],
        max_steps=max(1, top, bottom, min(max_steps, effort.lanczos_steps[1])),
        num_probes=effort.probes[0] if wanted & _TRACED else 0,
        max_probes=effort.probes[1],
        readings=readings,
        agree=hessian.objective.share.agree,
    )
