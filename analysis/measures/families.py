"""The measures that an experiment can name, at many points side by side."""

import math
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.curvature.matrices import Kind
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.samples import AttemptError, Share
from basinet.analysis.curvature.scales import Scale
from basinet.analysis.curvature.spectral import Spectrum, spectra
from basinet.analysis.curvature.trace import Estimate
from basinet.analysis.measures.noise import gradient_noise
from basinet.analysis.measures.risk import descend, newton_decrement
from basinet.analysis.measures.sharpness import (
    average_sharpness,
    m_sharpness,
    pac_bayes_sigma,
    relative_flatness,
    worst_sharpness,
)
from basinet.analysis.measures.snapshot import EIGENVALUES, PROBED, TOL
from basinet.analysis.runs.sites import Sites
from basinet.sim.run.records import Row

__all__ = ["Attempts", "measure_sites"]

AVERAGE_RHO = 0.01
"""Standard deviation of a coordinate of the perturbations of the average sharpness."""

WORST_RHO = 0.05
"""Radius of the ball of the worst sharpness, the usual one of SAM."""

ADAPTIVE_RHO = 0.5
"""Radius of the ball of the adaptive sharpness, the usual one of ASAM; and of the average one, 1 / 10 of it."""

BATCH = 32
"""Samples of a batch of the m-sharpness."""

T = TypeVar("T")


class Attempts:
    """Takes measures one family at a time, so that one that fails, fails alone.

    Args:
        share: The processes that measure together; a failure of one is one of all.
        wanted: Names of the measures.

    Attributes:
        failures: The first reason for which a measure failed, a sentence, and the traceback, by the measure's name.
    """

    def __init__(self, share: Share, wanted: Collection[str]) -> None:
        self.share, self.wanted = share, wanted
        self.failures: dict[str, tuple[str, str]] = {}

    def take(
        self, names: Iterable[str], work: Callable[[], tuple[list[Row], list[Row]]]
    ) -> tuple[list[Row], list[Row]]:
        """Take some measures, if any of them is wanted.

        Args:
            names: Their names.
            work: Takes them: returns rows of values and rows of tables.

        Returns:
            What was found; nothing where it failed.
        """
        return self.prepare(names, work) or ([], [])

    def prepare(self, names: Iterable[str], work: Callable[[], T]) -> T | None:
        """Do some work that measures need, if any of them is wanted; where it fails, they do.

        Args:
            names: Their names.
            work: The work, with no other attempt in it.

        Returns:
            What the work returned; None where it failed, or no measure is wanted.
        """
        asked = [name for name in self.wanted if name in set(names)]
        if not asked:
            return None
        try:
            return self.share.attempt(work)
        except AttemptError as failure:
            for name in asked:
                self.failures.setdefault(name, failure.args)
            return None


def measure_sites(sites: Sites, attempts: Attempts) -> tuple[list[Row], list[Row]]:
    """Measure some points.

    Args:
        sites: The points, and what is wanted of them; measures that do not belong to single points are left out.
        attempts: Takes note of what fails.

    Returns:
        The values at each point by name; an estimate comes with its error: a standard error for what is drawn, a
        residual bound for an eigenvalue, the gradient norm at which the descent stopped for the excess risk. And rows
        of tables: each has the name of its `table`, and its `agent`.
    """
    found: list[Row] = [{} for _ in sites.agents]
    tables: list[Row] = []
    for names, family in _FAMILIES.items():
        rows, more = attempts.take(names, partial(_measured, family, sites))
        tables += more
        for row, values in zip(found, rows, strict=False):
            row |= {_named(name, sites.suffix): value for name, value in values.items()}
    return found, tables


def _measured(
    family: Callable[[Sites], list[Row] | tuple[list[Row], list[Row]]], sites: Sites
) -> tuple[list[Row], list[Row]]:
    measured = family(sites)
    rows, tables = measured if isinstance(measured, tuple) else (measured, [])
    for agent, row in zip(sites.agents, rows, strict=True):
        for name in sorted(sites.wanted & row.keys() - _UNDEFINED):
            if not math.isfinite(row[name]):
                where = "the centroid" if agent is None else f"agent {agent}"
                raise ValueError(f"at {where} it is {row[name]}")
    return [{name: value for name, value in row.items() if math.isfinite(value)} for row in rows], tables


def _named(name: str, suffix: str) -> str:
    """Add the view to the name of a measure; what is said of a value keeps its place after it."""
    for tail in ("_error", "_gradient_norm"):
        if name.endswith(tail):
            return name.removesuffix(tail) + suffix + tail
    return name + suffix


def _add(row: Row, name: str, value: float, error: float) -> None:
    row[name] = value
    row[f"{name}_error"] = error


def _spectrum(sites: Sites) -> tuple[list[Row], list[Row]]:
    """Measure what comes from one Krylov run and a few probes."""
    _, spectrums = sites.snapshot
    found = [_spectrum_row(spectrum, sites.wanted, list(sites.hessian.objective.shapes)) for spectrum in spectrums]
    tables: list[Row] = []
    if "hessian_density" in sites.wanted:
        for agent, spectrum in zip(sites.agents, spectrums, strict=True):
            place = {"table": f"density{sites.suffix}", "agent": agent}
            atoms = zip(spectrum.density.nodes.tolist(), spectrum.density.weights.tolist(), strict=True)
            tables += [{**place, "eigenvalue": node, "weight": weight} for node, weight in atoms]
    return found, tables


def _noise(sites: Sites) -> list[Row]:
    """Measure the noise of gradients, and the curvature along it."""
    space, spectrums = sites.snapshot
    size, wanted = sites.hessian.points.shape[1], sites.wanted
    noises = gradient_noise(sites.hessian, space, draws.fold(sites.keys, 2), num_probes=sites.effort.probes[0])
    found: list[Row] = []
    for noise, spectrum in zip(noises, spectrums, strict=True):
        row: Row = {}
        if "gradient_noise_trace" in wanted:
            row["gradient_noise_trace"] = noise.trace
        if "noise_curvature" in wanted:
            _add(row, "noise_curvature", noise.curvature.value, noise.curvature.error)
        if "noise_alignment" in wanted:
            row["noise_alignment"] = noise.alignment(spectrum.trace.value, size)
        found.append(row)
    return found


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


def _matrix(name: str, kind: Kind, sites: Sites) -> list[Row]:
    """Measure trace and largest eigenvalue of another curvature matrix than the Hessian."""
    trace, top = f"{name}_trace", f"{name}_top_eigenvalue"
    matrix, effort = sites.hessian.of_kind(kind), sites.effort
    _, spectrums = spectra(
        matrix.products,
        sites.keys,
        matrix.points.shape[1],
        steps=effort.lanczos_steps[0],
        max_steps=min(sites.max_steps, effort.lanczos_steps[1]),
        num_probes=effort.probes[0] if trace in sites.wanted else 0,
        max_probes=effort.probes[1],
        agree=matrix.objective.share.agree,
    )
    found: list[Row] = []
    for spectrum in spectrums:
        row: Row = {}
        if trace in sites.wanted:
            _add(row, trace, spectrum.trace.value, spectrum.trace.error)
        if top in sites.wanted:
            _add(row, top, float(spectrum.top[0]), float(spectrum.top_residuals[0]))
            row[f"{name}_converged"] = int(spectrum.converged)
        found.append(row)
    return found


def _excess_risk(sites: Sites) -> list[Row]:
    descents = [descend(h, max_products=sites.effort.descent_products) for h in _operators(sites)]
    return [{"excess_risk": d.value, "excess_risk_gradient_norm": d.gradient_norm} for d in descents]


def _newton_decrement(sites: Sites) -> list[Row]:
    return [{"newton_decrement": newton_decrement(h, steps=sites.effort.decrement_steps)} for h in _operators(sites)]


def _operators(sites: Sites) -> list[HessianOperator]:
    return [HessianOperator.of(sites.hessian.part(slice(k, k + 1))) for k in range(len(sites.agents))]


def _average(name: str, rho: float, scale: Scale, sites: Sites) -> list[Row]:
    pairs = sites.effort.pairs
    return _estimates(
        name, average_sharpness(sites.hessian, draws.fold(sites.keys, 3), rho=rho, scale=scale, num_pairs=pairs)
    )


def _relative_flatness(sites: Sites) -> list[Row]:
    probes = sites.effort.probes[0]
    keys = draws.fold(sites.keys, 4)
    return _estimates("relative_flatness", relative_flatness(sites.hessian, keys, num_probes=probes))


def _estimates(name: str, estimates: list[Estimate]) -> list[Row]:
    return [{name: e.value, f"{name}_error": e.error} for e in estimates]


def _worst(name: str, rho: float, scale: Scale, sites: Sites) -> list[Row]:
    steps = sites.effort.ascent_steps
    return _values(name, worst_sharpness(sites.hessian, draws.fold(sites.keys, 3), rho=rho, scale=scale, steps=steps))


def _sigma(sites: Sites) -> list[Row]:
    pairs, bisections = sites.effort.sigma
    keys = draws.fold(sites.keys, 3)
    return _values("pac_bayes_sigma", pac_bayes_sigma(sites.hessian, keys, num_pairs=pairs, bisections=bisections))


def _by_batches(sites: Sites) -> list[Row]:
    return _values("m_sharpness", _m_sharpness(sites, draws.fold(sites.keys, 3)))


def _values(name: str, values: Tensor) -> list[Row]:
    return [{name: value} for value in values.tolist()]


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


_FAMILIES: dict[frozenset[str], Callable[[Sites], list[Row] | tuple[list[Row], list[Row]]]] = {
    EIGENVALUES | PROBED | {"hessian_density"}: _spectrum,
    frozenset({"gradient_noise_trace", "noise_curvature", "noise_alignment"}): _noise,
    frozenset({"gauss_newton_trace", "gauss_newton_top_eigenvalue"}): partial(_matrix, "gauss_newton", "gauss_newton"),
    frozenset({"fisher_trace", "fisher_top_eigenvalue"}): partial(_matrix, "fisher", "empirical_fisher"),
    frozenset({"average_sharpness"}): partial(_average, "average_sharpness", AVERAGE_RHO, "none"),
    frozenset({"adaptive_average_sharpness"}): partial(
        _average, "adaptive_average_sharpness", ADAPTIVE_RHO / 10, "adaptive"
    ),
    frozenset({"relative_flatness"}): _relative_flatness,
    frozenset({"worst_sharpness"}): partial(_worst, "worst_sharpness", WORST_RHO, "none"),
    frozenset({"adaptive_sharpness"}): partial(_worst, "adaptive_sharpness", ADAPTIVE_RHO, "adaptive"),
    frozenset({"pac_bayes_sigma"}): _sigma,
    frozenset({"m_sharpness"}): _by_batches,
    frozenset({"excess_risk"}): _excess_risk,
    frozenset({"newton_decrement"}): _newton_decrement,
}
"""Measures of single points, with what takes them; those that are taken together fail together."""

_UNDEFINED = frozenset({"noise_alignment"})
"""Measures that have no value at some points: where there is no noise, or no curvature."""
