"""Measures from spectra of curvature matrices: eigenvalues, traces, norms and densities."""

from collections.abc import Collection
from functools import reduce
from operator import or_
from typing import ClassVar

from basinet.analysis.curvature.matrices import Kind
from basinet.analysis.curvature.spectral import Spectrum, spectra
from basinet.analysis.measures.measure import Found, Needs, PointMeasure, add
from basinet.analysis.measures.measured import TOL, Points
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import Row

__all__ = ["FisherSpectrum", "GaussNewtonSpectrum", "HessianSpectrum"]

NUM_EIGENVALUES = 5
"""Number of eigenvalues at either end in `hessian_eigenvalues`."""

_TR = "Tr\N{NO-BREAK SPACE}"


class HessianSpectrum(PointMeasure):
    """Spectrum of the Hessian H, from one Krylov run and a few probes.

    Eigenvalues come with their residuals ‖H y − λ y‖, estimates with their standard errors; see
    `basinet.analysis.curvature.spectral.spectra`.

    Args:
        wanted: The requested names.

    References:
        Ubaru, Chen, Saad: Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM Journal on Matrix
        Analysis and Applications 38, 2017, doi:10.1137/16M1104974.
    """

    quantities: ClassVar = {
        "hessian_trace": Quantity(
            f"Hessian trace {_TR}H (smaller is flatter)", "Hessian trace", direction="smaller", about="Tr H"
        ),
        "hessian_top_eigenvalue": Quantity(
            "largest Hessian eigenvalue λ_max (smaller is flatter)",
            "Hessian λ_max",
            direction="smaller",
            about="λ_max, with its residual",
        ),
        "hessian_bottom_eigenvalue": Quantity(
            "smallest Hessian eigenvalue λ_min", "Hessian λ_min", about="λ_min, with its residual"
        ),
        "hessian_eigenvalues": Quantity(
            "Hessian eigenvalues", about="The five largest and the five smallest eigenvalues"
        ),
        "hessian_frobenius_norm": Quantity(
            "Frobenius norm of the Hessian ‖H‖_F", "Hessian ‖H‖_F", direction="smaller", about="‖H‖_F"
        ),
        "hessian_effective_rank": Quantity(
            f"effective rank of the Hessian ({_TR}H)² / ‖H‖_F²", "Hessian effective rank", about="(Tr H)² / ‖H‖_F²"
        ),
        "hessian_condition_number": Quantity(
            "condition number of the Hessian λ_max / λ_min",
            "Hessian condition",
            direction="smaller",
            about="λ_max / λ_min, if λ_min is known to be positive",
        ),
        "hessian_layer_traces": Quantity(
            "Hessian traces of the layers", direction="smaller", about="Trace of each layer's block of H"
        ),
        "hessian_density": Quantity(
            "spectral density of the Hessian", about="Spectral density by stochastic Lanczos quadrature (table)"
        ),
        "adaptive_trace": Quantity(
            "adaptive Hessian trace Σ x_i² H_ii",
            "adaptive trace",
            direction="smaller",
            about="Σ x_i² H_ii, invariant under rescaling of a ReLU network",
        ),
        "filter_normalized_trace": Quantity(
            "filter-normalised Hessian trace",
            "filter-normalised trace",
            direction="smaller",
            about="Σ_f ‖x_f‖² Tr H_ff / d_f over filters f",
        ),
    }

    _NEEDS: ClassVar[dict[str, Needs]] = {
        "hessian_bottom_eigenvalue": Needs(bottom=1),
        "hessian_condition_number": Needs(bottom=1),
        "hessian_eigenvalues": Needs(top=NUM_EIGENVALUES, bottom=NUM_EIGENVALUES),
        "hessian_top_eigenvalue": Needs(),
        "hessian_density": Needs(),
    }
    """Needs of these names; all others take probes."""

    _EIGENVALUES = frozenset(_NEEDS) - {"hessian_density"}

    def __init__(self, wanted: Collection[str]) -> None:
        self.wanted = self.among(wanted)
        needs = (self._NEEDS.get(name, Needs(probes=True)) for name in self.wanted)
        self.needs = reduce(or_, needs, Needs(snapshot=True))

    def at(self, points: Points) -> Found:
        """See `PointMeasure`."""
        _, spectrums = points.snapshot
        layers = list(points.hessian.objective.shapes)
        tables: list[Row] = []
        if "hessian_density" in self.wanted:
            for agent, spectrum in zip(points.agents, spectrums, strict=True):
                atoms = zip(spectrum.density.nodes.tolist(), spectrum.density.weights.tolist(), strict=True)
                place = {"table": "density", "agent": agent}
                tables += [{**place, "eigenvalue": node, "weight": weight} for node, weight in atoms]
        return Found([self._row(spectrum, layers) for spectrum in spectrums], tables)

    def _row(self, spectrum: Spectrum, layers: list[str]) -> Row:
        row: Row = {}
        settled = True
        scale = max(map(abs, (*spectrum.top.tolist(), *spectrum.bottom.tolist())))
        ends = (("top", spectrum.top, spectrum.top_residuals), ("bottom", spectrum.bottom, spectrum.bottom_residuals))
        for end, values, residuals in ends:
            for number, (value, residual) in enumerate(zip(values.tolist(), residuals.tolist(), strict=True), 1):
                name = f"hessian_{end}_eigenvalue"
                if "hessian_eigenvalues" in self.wanted or (number == 1 and name in self.wanted):
                    add(row, name if number == 1 else f"{name}_{number}", value, residual)
                    settled &= residual <= TOL * (abs(value) if end == "top" else scale)
        if self.wanted & self._EIGENVALUES:
            row["hessian_converged"] = int(settled)
        estimates = {
            "hessian_trace": (spectrum.trace.value, spectrum.trace.error),
            "hessian_frobenius_norm": (spectrum.frobenius_norm, spectrum.frobenius_norm_error),
            "hessian_effective_rank": (spectrum.effective_rank, spectrum.rank_error),
            "adaptive_trace": (spectrum.readings[-2], spectrum.reading_errors[-2]),
            "filter_normalized_trace": (spectrum.readings[-1], spectrum.reading_errors[-1]),
        }
        for name, (value, error) in estimates.items():
            if name in self.wanted:
                add(row, name, float(value), float(error))
        if "hessian_condition_number" in self.wanted and (ratio := spectrum.condition_number) is not None:
            row["hessian_condition_number"] = ratio
        if "hessian_layer_traces" in self.wanted:
            readings = zip(layers, spectrum.readings.tolist(), spectrum.reading_errors.tolist(), strict=False)
            for layer, value, error in readings:
                add(row, f"hessian_trace/{layer}", value, error)
        return row


class _MatrixSpectrum(PointMeasure):
    """Trace and largest eigenvalue of a curvature matrix other than the Hessian."""

    kind: ClassVar[Kind]
    needs = Needs(krylov=True)

    def __init__(self, wanted: Collection[str]) -> None:
        self.wanted = self.among(wanted)

    def at(self, points: Points) -> list[Row]:
        """See `PointMeasure`."""
        trace, top = self.quantities
        matrix, effort = points.hessian.of_kind(self.kind), points.effort
        _, spectrums = spectra(
            matrix.products,
            points.keys,
            matrix.points.shape[1],
            steps=effort.lanczos_steps[0],
            max_steps=min(points.max_steps, effort.lanczos_steps[1]),
            num_probes=effort.probes[0] if trace in self.wanted else 0,
            max_probes=effort.probes[1],
            agree=matrix.objective.share.agree,
        )
        found: list[Row] = []
        for spectrum in spectrums:
            row: Row = {}
            if trace in self.wanted:
                add(row, trace, spectrum.trace.value, spectrum.trace.error)
            if top in self.wanted:
                add(row, top, float(spectrum.top[0]), float(spectrum.top_residuals[0]))
                row[f"{trace.removesuffix('_trace')}_converged"] = int(spectrum.converged)
            found.append(row)
        return found


class GaussNewtonSpectrum(_MatrixSpectrum):
    """Trace and largest eigenvalue of the Gauss-Newton matrix.

    With the Jacobian F_i of the outputs of sample i: ``G = Σ_i w_i F_iᵀ ∂²ℓ_i F_i``.

    Args:
        wanted: The requested names.

    References:
        Schraudolph: Fast curvature matrix-vector products for second-order gradient descent, Neural Computation 14,
        2002, doi:10.1162/08997660260028683.
    """

    kind = "gauss_newton"
    quantities: ClassVar = {
        "gauss_newton_trace": Quantity(
            f"Gauss-Newton trace {_TR}G",
            "Gauss-Newton trace",
            direction="smaller",
            about="Trace of the Gauss-Newton matrix (for cross-entropy, the Fisher matrix)",
        ),
        "gauss_newton_top_eigenvalue": Quantity(
            "largest Gauss-Newton eigenvalue",
            "Gauss-Newton λ_max",
            direction="smaller",
            about="Largest eigenvalue of the Gauss-Newton matrix",
        ),
    }


class FisherSpectrum(_MatrixSpectrum):
    """Trace and largest eigenvalue of the empirical Fisher matrix.

    With per-sample gradients: ``E = Σ_i w_i ∇ℓ_i ∇ℓ_iᵀ``.

    Args:
        wanted: The requested names.

    References:
        Kunstner, Balles, Hennig: Limitations of the empirical Fisher approximation for natural gradient descent,
        NeurIPS 2019, arXiv:1905.12558.
    """

    kind = "empirical_fisher"
    needs = Needs(krylov=True, samples=True)
    quantities: ClassVar = {
        "fisher_trace": Quantity(
            "trace of the empirical Fisher matrix",
            "Fisher trace",
            direction="smaller",
            about="Trace of the empirical Fisher matrix",
        ),
        "fisher_top_eigenvalue": Quantity(
            "largest eigenvalue of the empirical Fisher matrix",
            "Fisher λ_max",
            direction="smaller",
            about="Largest eigenvalue of the empirical Fisher matrix",
        ),
    }
