"""The measures that an experiment can name, at many points side by side."""

import math

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature import Kind
from basinet.analysis.hessian import HessianOperator
from basinet.analysis.noise import gradient_noise
from basinet.analysis.objective import Objective
from basinet.analysis.risk import descend, newton_decrement
from basinet.analysis.scaling import Scale
from basinet.analysis.sharpness import (
    average_sharpness,
    m_sharpness,
    pac_bayes_sigma,
    relative_flatness,
    worst_sharpness,
)
from basinet.analysis.sites import Sites
from basinet.analysis.snapshot import EIGENVALUES, SNAPSHOT, TOL
from basinet.analysis.spectrum import Spectrum, spectra
from basinet.sim.folder import Row

__all__ = ["measure_sites"]

AVERAGE_RHO = 0.01
"""Standard deviation of a coordinate of the perturbations of the average sharpness."""

WORST_RHO = 0.05
"""Radius of the ball of the worst sharpness, the usual one of SAM."""

ADAPTIVE_RHO = 0.5
"""Radius of the ball of the adaptive sharpness, the usual one of ASAM; and of the average one, 1 / 10 of it."""

BATCH = 32
"""Samples of a batch of the m-sharpness."""

_NOISE = frozenset({"gradient_noise_trace", "noise_curvature", "noise_alignment"})


def measure_sites(sites: Sites) -> tuple[list[Row], list[Row]]:
    """Measure some points.

    Args:
        sites: The points, and what is wanted of them; measures that do not belong to single points are left out.

    Returns:
        The values at each point by name; an estimate comes with its error: a standard error for what is drawn, a
        residual bound for an eigenvalue, the gradient norm at which the descent stopped for the excess risk. And rows
        of tables: each has the name of its `table`, and its `agent`.
    """
    found, tables = _spectral(sites)
    _other_matrices(sites, found)
    _sharpness(sites, found)
    if "excess_risk" in sites.wanted:
        for k, row in enumerate(found):
            risk = descend(HessianOperator.of(sites.hessian.part(slice(k, k + 1))))
            row |= {"excess_risk": risk.value, "excess_risk_gradient_norm": risk.gradient_norm}
    if "newton_decrement" in sites.wanted:
        for k, row in enumerate(found):
            row["newton_decrement"] = newton_decrement(HessianOperator.of(sites.hessian.part(slice(k, k + 1))))
    named = [{_named(name, sites.suffix): v for name, v in row.items() if math.isfinite(v)} for row in found]
    return named, tables


def _named(name: str, suffix: str) -> str:
    """Add the view to the name of a measure; what is said of a value keeps its place after it."""
    for tail in ("_error", "_gradient_norm"):
        if name.endswith(tail):
            return name.removesuffix(tail) + suffix + tail
    return name + suffix


def _add(row: Row, name: str, value: float, error: float) -> None:
    row[name] = value
    row[f"{name}_error"] = error


def _spectral(sites: Sites) -> tuple[list[Row], list[Row]]:
    """Measure what comes from one Krylov run: the spectrum of the Hessian, and the noise against it."""
    wanted = sites.wanted
    if not wanted & (SNAPSHOT - {"loss_slices", "disagreement_alignment"}):
        return [{} for _ in sites.agents], []
    size = sites.hessian.points.shape[1]
    space, spectrums = sites.snapshot
    found = [_spectrum_row(spectrum, wanted, list(sites.hessian.objective.shapes)) for spectrum in spectrums]
    if wanted & _NOISE:
        noises = gradient_noise(sites.hessian, space, draws.fold(sites.keys, 2))
        for row, noise, spectrum in zip(found, noises, spectrums, strict=True):
            if "gradient_noise_trace" in wanted:
                row["gradient_noise_trace"] = noise.trace
            if "noise_curvature" in wanted:
                _add(row, "noise_curvature", noise.curvature.value, noise.curvature.error)
            if "noise_alignment" in wanted:
                row["noise_alignment"] = noise.alignment(spectrum.trace.value, size)
    tables: list[Row] = []
    if "hessian_density" in wanted:
        for agent, spectrum in zip(sites.agents, spectrums, strict=True):
            place = {"table": f"density{sites.suffix}", "agent": agent}
            atoms = zip(spectrum.density.nodes.tolist(), spectrum.density.weights.tolist(), strict=True)
            tables += [{**place, "eigenvalue": node, "weight": weight} for node, weight in atoms]
    return found, tables


def _spectrum_row(spectrum: Spectrum, wanted: frozenset[str], layers: list[str]) -> Row:
    row: Row = {}
    settled = True
    scale = max(map(abs, (*spectrum.top.tolist(), *spectrum.bottom.tolist())))
    ends = (("top", spectrum.top, spectrum.top_residuals), ("bottom", spectrum.bottom, spectrum.bottom_residuals))
    for end, values, residuals in ends:
        for number, (value, residual) in enumerate(zip(values.tolist(), residuals.tolist(), strict=True), 1):
            name = f"hessian_{end}_eigenvalue"
            if "hessian_eigenvalues" in wanted or (number == 1 and name in wanted):
                _add(row, name if number == 1 else f"{name}_{number}", value, residual)
                settled &= residual <= TOL * (abs(value) if end == "top" else scale)
    if wanted & EIGENVALUES:
        row["hessian_converged"] = int(settled)
    estimates = {
        "hessian_trace": (spectrum.trace.value, spectrum.trace.error),
        "hessian_frobenius_norm": (spectrum.frobenius_norm, spectrum.frobenius_norm_error),
        "hessian_effective_rank": (spectrum.effective_rank, spectrum.rank_error),
        "adaptive_trace": (spectrum.readings[-2], spectrum.reading_errors[-2]),
        "filter_normalized_trace": (spectrum.readings[-1], spectrum.reading_errors[-1]),
    }
    for name, (value, error) in estimates.items():
        if name in wanted:
            _add(row, name, float(value), float(error))
    if "hessian_condition_number" in wanted and (ratio := spectrum.condition_number) is not None:
        row["hessian_condition_number"] = ratio
    if "hessian_layer_traces" in wanted:
        for number, layer in enumerate(layers):
            _add(
                row, f"hessian_trace/{layer}", float(spectrum.readings[number]), float(spectrum.reading_errors[number])
            )
    return row


def _other_matrices(sites: Sites, found: list[Row]) -> None:
    """Measure trace and largest eigenvalue of the Gauss-Newton and the empirical Fisher matrix."""
    kinds: dict[str, Kind] = {"gauss_newton": "gauss_newton", "fisher": "empirical_fisher"}
    for name, kind in kinds.items():
        trace, top = f"{name}_trace", f"{name}_top_eigenvalue"
        wanted = sites.wanted & {trace, top}
        if not wanted:
            continue
        matrix = sites.hessian.of_kind(kind)
        size = matrix.points.shape[1]
        probes = 10 if trace in wanted else 0
        agree = matrix.objective.share.agree
        _, spectrums = spectra(
            matrix.products, sites.keys, size, max_steps=sites.max_steps, num_probes=probes, agree=agree
        )
        for row, spectrum in zip(found, spectrums, strict=True):
            if trace in wanted:
                _add(row, trace, spectrum.trace.value, spectrum.trace.error)
            if top in wanted:
                _add(row, top, float(spectrum.top[0]), float(spectrum.top_residuals[0]))
                row[f"{name}_converged"] = int(spectrum.converged)


def _sharpness(sites: Sites, found: list[Row]) -> None:
    """Measure how the loss rises around the points."""
    wanted, keys = sites.wanted, draws.fold(sites.keys, 3)
    averages: dict[str, tuple[float, Scale]] = {
        "average_sharpness": (AVERAGE_RHO, "none"),
        "adaptive_average_sharpness": (ADAPTIVE_RHO / 10, "adaptive"),
    }
    for name, (rho, scale) in averages.items():
        if name in wanted:
            for row, rise in zip(found, average_sharpness(sites.hessian, keys, rho=rho, scale=scale), strict=True):
                _add(row, name, rise.value, rise.error)
    if "relative_flatness" in wanted:
        for row, kappa in zip(found, relative_flatness(sites.hessian, draws.fold(sites.keys, 4)), strict=True):
            _add(row, "relative_flatness", kappa.value, kappa.error)
    plain: dict[str, Tensor] = {}
    if "worst_sharpness" in wanted:
        plain["worst_sharpness"] = worst_sharpness(sites.hessian, keys, rho=WORST_RHO)
    if "adaptive_sharpness" in wanted:
        plain["adaptive_sharpness"] = worst_sharpness(sites.hessian, keys, rho=ADAPTIVE_RHO, scale="adaptive")
    if "pac_bayes_sigma" in wanted:
        plain["pac_bayes_sigma"] = pac_bayes_sigma(sites.hessian, keys)
    if "m_sharpness" in wanted:
        plain["m_sharpness"] = _m_sharpness(sites, keys)
    for name, values in plain.items():
        for row, value in zip(found, values.tolist(), strict=True):
            row[name] = value


def _m_sharpness(sites: Sites, keys: Tensor) -> Tensor:
    """Measure each point on batches of the samples that its loss is the mean of."""
    objective = sites.hessian.objective
    values = []
    for k in range(sites.hessian.num_points):
        places = objective.samples.places(sites.hessian.rows.start + k)
        # A remainder that makes no batch would weigh as much as one.
        batches = [places[start : start + BATCH] for start in range(0, len(places) - BATCH + 1, BATCH)] or [places]
        losses = Objective(
            objective.model, objective.loss, objective.samples.data, holdings=batches, share=objective.share
        )
        buffers = {name: b[k : k + 1] for name, b in sites.hessian.buffers.items()}
        point = sites.hessian.points[k : k + 1]
        values.append(m_sharpness(losses, point, keys[k : k + 1], rho=WORST_RHO, buffers=buffers))
    return torch.cat(values)
