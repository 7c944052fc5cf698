"""Spectra of curvature matrices from one Krylov run each: extreme eigenvalues, trace, norm and density."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature.hessian import tensor_products
from basinet.analysis.curvature.krylov import Krylov, krylov
from basinet.analysis.curvature.trace import Estimate, mean_estimate

__all__ = ["Density", "Spectrum", "spectra", "spectrum"]

Array = NDArray[np.float64]

_SINGLE = 15.0
"""The squared component of a random vector along one direction is χ²₁ distributed and exceeds this once in 10⁴; a Ritz
value with a larger weight in the starting vector represents several eigenvalues."""


@dataclass(frozen=True, eq=False)
class Density:
    """The distribution of eigenvalues, as atoms.

    Attributes:
        nodes: Positions of the atoms, ascending, [q].
        weights: Fraction of the eigenvalues that each represents, with sum one, [q].
    """

    nodes: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Estimates of the spectrum of a symmetric matrix H.

    Attributes:
        size: P.
        top: The largest eigenvalues, descending, [k].
        top_residuals: ‖H y − θ y‖ of their Ritz vectors: an eigenvalue lies within this distance.
        bottom: The smallest eigenvalues, ascending, [j].
        bottom_residuals: The same for the smallest.
        converged: Whether all residuals are within the tolerance; if not, these eigenvalues are only inner bounds.
        trace: Tr H.
        squared_norm: ‖H‖_F².
        rank_error: Standard error of the effective rank.
        readings: Linear functions of the diagonal, [J].
        reading_errors: Their standard errors, [J].
        density: The distribution of the eigenvalues.
        num_products: Number of matrix-vector products used.
    """

    size: int
    top: Array
    top_residuals: Array
    bottom: Array
    bottom_residuals: Array
    converged: bool
    trace: Estimate
    squared_norm: Estimate
    rank_error: float
    readings: Array
    reading_errors: Array
    density: Density
    num_products: int

    @property
    def frobenius_norm(self) -> float:
        """‖H‖_F."""
        return math.sqrt(self.squared_norm.value)

    @property
    def frobenius_norm_error(self) -> float:
        """Standard error of ‖H‖_F."""
        norm = self.frobenius_norm
        return self.squared_norm.error / (2 * norm) if norm else 0.0

    @property
    def effective_rank(self) -> float:
        """(Tr H)² / ‖H‖_F²: the number of nonzero eigenvalues if these are all equal."""
        return self.trace.value**2 / self.squared_norm.value if self.squared_norm.value else 0.0

    @property
    def condition_number(self) -> float | None:
        """λ_max / λ_min, or None unless the smallest eigenvalue is known to be positive."""
        if not self.converged or not len(self.top) or not len(self.bottom):
            return None
        low = float(self.bottom[0])
        return float(self.top[0]) / low if low > self.bottom_residuals[0] else None


def spectrum(
    operator: Any,
    *,
    top: int = 1,
    bottom: int = 0,
    tol: float = 1e-3,
    max_steps: int = 100,
    rtol: float = 0.02,
    max_probes: int = 30,
    seed: int = 0,
) -> Spectrum:
    """Measure the spectrum of a symmetric operator: extreme eigenvalues, trace, norm, effective rank and density.

    Args:
        operator: A symmetric matrix, `scipy.sparse.linalg.LinearOperator` or `CurvatureOperator`, [P, P].
        top: Number of largest eigenvalues wanted.
        bottom: Number of smallest eigenvalues wanted.
        tol: Tolerance of the residuals, relative to the eigenvalue at the top and to the largest one at the bottom.
        max_steps: Maximum number of Lanczos steps; each costs one product and 8 P bytes.
        rtol: Relative standard error of the trace at which probing stops.
        max_probes: Number of probes after which probing stops; each costs one product.
        seed: Seed of all random vectors.

    Returns:
        The spectrum.

    Raises:
        ValueError: If the operator is not square, or as for `spectra`.

    Example:
        >>> found = spectrum(np.diag([1.0, 2.0, 4.0]), top=2)
        >>> found.top.round(9), round(found.trace.value, 9), found.density.weights.round(3)
        (array([4., 2.]), 7.0, array([0.333, 0.333, 0.333]))
    """
    products, size, device = tensor_products(operator)
    keys = torch.tensor([draws.key(seed, "spectrum")], device=device)
    _, (found,) = spectra(
        products,
        keys,
        size,
        top=top,
        bottom=bottom,
        tol=tol,
        max_steps=max_steps,
        rtol=rtol,
        max_probes=max_probes,
    )
    return found


def spectra(
    products: Callable[[Tensor], Tensor],
    keys: Tensor,
    size: int,
    *,
    top: int = 1,
    bottom: int = 0,
    tol: float = 1e-3,
    steps: int = 30,
    max_steps: int = 100,
    num_probes: int = 10,
    rtol: float = 0.02,
    max_probes: int = 30,
    readings: Callable[[Tensor], Tensor] | None = None,
    agree: Callable[[Tensor], Tensor] = lambda numbers: numbers,
) -> tuple[Krylov, list[Spectrum]]:
    r"""Measure the spectra of N symmetric matrices side by side, from one Krylov basis Q each and a few probes.

    Lanczos runs for at least `steps` steps, and until the extreme eigenvalues have converged. Everything else reuses
    its basis. With random signs g and P = I − QQᵀ,

    $$
    \mathrm{tr} H = \mathrm{tr} T + E[gᵀ P H P g], \qquad
    ‖H‖_F² = ‖T‖_F² + β_m² + E‖H P g‖², \qquad
    \mathrm{diag} H = \mathrm{diag}(Q T Qᵀ) + 2 β_m q_m ∘ q_{m+1} + E[g ∘ P H P g],
    $$

    where the first terms are exact and hold the large eigenvalues, which cause most of the variance of plain probes
    (the idea of Hutch++, arXiv:2010.09649, with the basis already at hand). Linear functions of the diagonal, such as
    the trace of each layer's block, come from the same probes. Probes are drawn in rounds of `num_probes`, for each
    matrix until the relative standard error of its own trace is at most `rtol`: results for one matrix do not depend on
    the others.

    The density is that of stochastic Lanczos quadrature with the single starting vector q₁: an atom at each Ritz value
    θ_i with weight (e₁ᵀ s_i)². Converged simple eigenvalues get their true weight 1 / P instead, and the other atoms
    share the rest.

    Args:
        products: Multiplies each matrix by its own vector, [N, P] to [N, P], in float64.
        keys: Keys of all random vectors, int64 [N] on the device of the matrices.
        size: P.
        top: Number of largest eigenvalues wanted.
        bottom: Number of smallest eigenvalues wanted.
        tol: Tolerance of the residuals, relative to the eigenvalue at the top and to the largest one at the bottom.
        steps: Minimum number of Lanczos steps.
        max_steps: Maximum number of Lanczos steps.
        num_probes: Probes per round, at least 2; with 0 the trace and all that depends on it are NaN.
        rtol: Relative standard error of the trace at which probing stops.
        max_probes: Number of probes after which no further round starts.
        readings: A linear map from diagonals [N, P] to [N, J].
        agree: Makes the numbers that decisions rest on identical in all workers that share the products.

    Returns:
        The Krylov bases, and the spectrum of each matrix.

    Raises:
        ValueError: If `num_probes` is 1, which has no spread, or as for `krylov`.

    Example:
        >>> matrix = torch.diag(torch.arange(1.0, 6.0, dtype=torch.float64))
        >>> _, (found,) = spectra(lambda v: v @ matrix, torch.tensor([0]), 5, bottom=1)
        >>> round(found.trace.value, 9), round(float(found.top[0]), 9), round(found.condition_number, 9)
        (15.0, 5.0, 5.0)

    References:
        Ubaru, Chen, Saad: Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM Journal on Matrix
        Analysis and Applications 38, 2017, doi:10.1137/16M1104974. Papyan: Traces of class/cross-class structure
        pervade deep learning spectra, JMLR 21, 2020, arXiv:2008.11865.
    """
    if num_probes == 1:
        raise ValueError("num_probes must be at least 2 to have a spread, or 0 for no trace, got 1.")
    settings = {"top": top, "bottom": bottom, "tol": tol, "min_steps": min(steps, max_steps), "max_steps": max_steps}
    space = krylov(products, draws.fold(keys, 0), size, **settings, agree=agree)  # type: ignore[arg-type]
    probes = _Probes(products, space, draws.fold(keys, 1), readings or (lambda d: d[:, :0]), agree)
    if num_probes:
        probes.draw_rounds(num_probes, rtol, max_probes)
    return space, [_spectrum(space, probes, row, (top, bottom), bool(num_probes)) for row in range(len(keys))]


class _Probes:
    """Random-sign probes of the complement of the Krylov bases, and sums over their products."""

    def __init__(
        self,
        products: Callable[[Tensor], Tensor],
        space: Krylov,
        keys: Tensor,
        readings: Callable[[Tensor], Tensor],
        agree: Callable[[Tensor], Tensor],
    ) -> None:
        self.products, self.space, self.keys, self.readings, self.agree = products, space, keys, readings, agree
        self.exact = space.sizes == space.basis.shape[2]
        self.counts = np.zeros(len(space.sizes), dtype=int)  # probes of each matrix
        self.rows, self.last = np.arange(len(space.sizes)), space.sizes - 1
        self.ends = space.beta[self.rows, self.last]  # β_m
        self.known_trace = space.alpha.sum(1)
        self.known_norm = (space.alpha**2).sum(1) + 2 * (space.beta**2).sum(1) - self.ends**2
        self.traces: list[Array] = []
        self.norms: list[Array] = []
        self.read: list[Array] = []

    @cached_property
    def known_readings(self) -> Array:
        """Readings of diag(Q T Qᵀ) + 2 β_m q_m ∘ q_{m+1}."""
        space = self.space
        beta = torch.from_numpy(space.beta.copy()).to(space.basis)[:, :, None]
        moved = torch.from_numpy(space.alpha.copy()).to(space.basis)[:, :, None] * space.basis
        moved[:, :-1] += 2 * beta[:, :-1] * space.basis[:, 1:]
        moved[self.rows, self.last] += 2 * torch.from_numpy(self.ends).to(space.basis)[:, None] * space.following
        found: Array = self.readings((space.basis * moved).sum(1)).cpu().numpy()
        return found

    def draw_rounds(self, num_probes: int, rtol: float, max_probes: int) -> None:
        """Draw rounds of probes for each matrix not known exactly, until its trace is accurate enough."""
        unsure = ~self.exact
        while unsure.any() and len(self.traces) < max_probes:
            for _ in range(num_probes):
                self._draw()
            self.counts[unsure] = len(self.traces)
            unsure &= self._errors() > rtol

    def _draw(self) -> None:
        """Draw one probe for each matrix."""
        size = self.space.basis.shape[2]
        signs = 1.0 - 2.0 * draws.integers(draws.fold(self.keys, len(self.traces)), 2, (size,)).to(self.space.basis)
        image = self.products(self.space.remainder(signs))
        left = signs * self.space.remainder(image)
        numbers = self.agree(torch.stack([left.sum(1), image.square().sum(1)])).cpu().numpy()
        self.traces.append(numbers[0])
        self.norms.append(numbers[1])
        self.read.append(self.readings(left).cpu().numpy())

    def _errors(self) -> Array:
        """Compute the relative standard errors of the traces, [N]."""
        samples = np.array(self.traces)
        error = samples.std(0, ddof=1) / math.sqrt(len(samples))
        scale = np.abs(self.known_trace + samples.mean(0))
        return np.where(error > 0, error / np.maximum(scale, np.finfo(float).tiny), 0.0)


def _spectrum(space: Krylov, probes: _Probes, row: int, wanted: tuple[int, int], traced: bool) -> Spectrum:
    """Combine basis and probes into the spectrum of one matrix."""
    values, weights, residuals = space.ritz(row)
    top, bottom = wanted
    size = space.basis.shape[2]
    unknown = Estimate(math.nan, math.nan, 0)
    trace, squared_norm, rank_error = unknown, unknown, math.nan
    readings = errors = probes.known_readings[row]
    if traced and probes.exact[row]:
        trace = Estimate(float(probes.known_trace[row]), 0.0, 0)
        squared_norm = Estimate(float(probes.known_norm[row]), 0.0, 0)
        rank_error, errors = 0.0, np.zeros_like(readings)
    elif traced:
        drawn = (probes.traces, probes.norms, probes.read)
        traces, norms, read = (np.array(part)[: probes.counts[row], row] for part in drawn)
        trace = mean_estimate(traces, len(traces), float(probes.known_trace[row]))
        squared_norm = mean_estimate(norms, len(norms), float(probes.known_norm[row]))
        # Linearise the rank t² / f in t and f, whose errors are correlated: both come from the same probes.
        t, f = trace.value, squared_norm.value
        rank_error = mean_estimate(2 * t / f * traces - (t / f) ** 2 * norms, 0).error if f else 0.0
        readings = readings + read.mean(0)
        errors = read.std(0, ddof=1) / math.sqrt(len(read))
    return Spectrum(
        size=size,
        top=values[::-1][:top],
        top_residuals=residuals[::-1][:top],
        bottom=values[:bottom],
        bottom_residuals=residuals[:bottom],
        converged=bool(space.converged[row]),
        trace=trace,
        squared_norm=squared_norm,
        rank_error=rank_error,
        readings=readings,
        reading_errors=errors,
        density=_density(values, weights[0] ** 2, residuals, size),
        num_products=int(space.sizes[row] + probes.counts[row]),
    )


def _density(values: Array, weights: Array, residuals: Array, size: int, tol: float = 1e-3) -> Density:
    """Give converged simple eigenvalues their true weight; the others share the rest by the starting vector."""
    scale = max(abs(values[0]), abs(values[-1]))
    single = (residuals <= tol * np.maximum(np.abs(values), tol * scale)) & (weights * size <= _SINGLE)
    if len(values) == size:
        single[:] = True
    rest = weights[~single].sum()
    found = np.where(single, 1 / size, weights * (1 - single.sum() / size) / (rest or 1.0))
    return Density(values, found / found.sum())
