"""General quadratic minima: agents whose Hessians and noise may differ, and affine recursions of their state."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from basinet.analysis.theory.parts import RiskParts

__all__ = ["Quadratics", "Recursion"]

Array = NDArray[np.float64]

_DOUBLINGS = 50
"""Number of doublings of the recursion: 2^50 steps count as infinity."""

_SETTLED = 1e-10
"""Relative change over a doubling of the steps at which the steady state is reached: the remainder is its square."""


@dataclass(frozen=True, eq=False)
class Quadratics:
    """Agent k has J_k(w) = ½ wᵀ H_k w + b_kᵀ w and the noise covariance R_k, in B independent blocks of m coordinates.

    Attributes:
        hessians: H_k, [K, B, m, m].
        noise: R_k, [K, B, m, m].
        shifts: b_k, [K, B, m].
        risk_hessian: Hessian of the loss whose excess risk is wanted, [B, m, m]; None for that of Σ_k π_k J_k.
    """

    hessians: Array
    noise: Array
    shifts: Array
    risk_hessian: Array | None = None

    @classmethod
    def of(cls, hessian: ArrayLike, noise: ArrayLike, shifts: ArrayLike | None = None, *, agents: int) -> "Quadratics":
        """Construct the agents' losses; a common Hessian is diagonalised.

        Args:
            hessian: [M], the eigenvalues of a common Hessian whose eigenvectors are the coordinates; [M, M], a common
                Hessian; or [K, M, M], one for each agent.
            noise: Covariance of the gradient. For given eigenvalues, the variances along the eigenvectors, [M], or per
                agent, [K, M]; otherwise [M, M] or [K, M, M].
            shifts: b_k, [K, M]; None for 0.
            agents: K.

        Returns:
            The losses.

        Raises:
            ValueError: If the shapes do not match.
        """
        h, r = np.asarray(hessian, dtype=float), np.asarray(noise, dtype=float)
        size = h.shape[-1]
        b = np.zeros((agents, size)) if shifts is None else np.asarray(shifts, dtype=float)
        wanted = {1: [(size,), (agents, size)], 2: [(size,) * 2, (agents, size, size)]}.get(min(h.ndim, 2), [])
        if h.shape not in ((size,), (size, size), (agents, size, size)) or r.shape not in wanted:
            raise ValueError(
                f"hessian {h.shape} and noise {r.shape} of {agents} agents do not match; allowed are [M] with [M]"
                " or [K, M], and [M, M] or [K, M, M] with either of these"
            )
        if b.shape != (agents, size):
            raise ValueError(f"shifts {b.shape} are not [K, M] = {(agents, size)}")
        if h.ndim == 3:
            noises = np.broadcast_to(r, (agents, size, size))
            return cls(h[:, None], noises[:, None], b[:, None])
        if h.ndim == 2:
            h, vectors = np.linalg.eigh(h)
            b = b @ vectors
            # Only the variances of the noise along the eigenvectors affect the second moments of interest.
            r = np.einsum("...ij,ib,jb->...b", r, vectors, vectors)
        every = np.broadcast_to(h, (agents, size))[..., None, None]
        return cls(every, np.broadcast_to(r, (agents, size))[..., None, None], b[..., None])

    def blocks(self, which: slice) -> "Quadratics":
        """Return some of the independent blocks."""
        risk = None if self.risk_hessian is None else self.risk_hessian[which]
        return Quadratics(self.hessians[:, which], self.noise[:, which], self.shifts[:, which], risk)


@dataclass(frozen=True, eq=False)
class Recursion:
    """Affine recursion s ← F s + c + ζ with ζ of covariance Q, over one or several steps, in B independent blocks.

    Attributes:
        F: [B, S, S]; the parameters of the K agents come first in the state, agent by agent.
        Q: [B, S, S].
        c: [B, S].
        steps: Number of steps of the run that it covers.
        quadratics: The agents' losses.
        centroid_weights: π, [K].
    """

    F: Array
    Q: Array
    c: Array
    steps: int
    quadratics: Quadratics
    centroid_weights: Array

    def after(self, times: int, start: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """Compute mean and covariance of the state after applying the recursion a number of times.

        Args:
            times: Number of applications.
            start: Initial mean and covariance; None for zeros, the minimum.

        Returns:
            [B, S] and [B, S, S].
        """
        mean, covariance = start or (np.zeros_like(self.c), np.zeros_like(self.Q))
        power = self
        while times:
            if times % 2:
                mean, covariance = power._follow(mean, covariance)
            times //= 2
            if times:
                power = power.then(power)
        return mean, covariance

    def then(self, later: "Recursion") -> "Recursion":
        """Compose two recursions.

        Args:
            later: The recursion of the steps that follow.

        Returns:
            The recursion over the steps of both.
        """
        c, Q = later._follow(self.c, self.Q)
        return dataclasses.replace(later, F=later.F @ self.F, Q=Q, c=c, steps=self.steps + later.steps)

    def settled(self) -> tuple[Array, Array]:
        """Compute the steady-state mean and covariance of the state; modes that are never excited do not matter.

        Returns:
            [B, S] and [B, S, S].

        Raises:
            ValueError: If there is no steady state.
        """
        power = self
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(_DOUBLINGS):
                following = power.then(power)
                if not np.isfinite(following.Q).all():
                    break
                if power._agrees(following):
                    return following.c, following.Q
                power = following
        raise ValueError("there is no steady state: the step size is too large, or a direction has no curvature")

    def excess_risk(self, moments: tuple[Array, Array]) -> RiskParts:
        """Compute the excess risk of Σ_k π_k J_k, or of the loss with `risk_hessian`.

        Args:
            moments: Mean and covariance of the state.

        Returns:
            Its parts.
        """
        K, B, m = self.quadratics.shifts.shape
        pi = self.centroid_weights
        hessian = self.quadratics.risk_hessian
        if hessian is None:
            hessian = np.einsum("k,kbij->bij", pi, self.quadratics.hessians)
        mean = moments[0][:, : K * m].reshape(B, K, m)
        covariance = moments[1][:, : K * m, : K * m].reshape(B, K, m, K, m)
        second = np.einsum("bki,blj->bkilj", mean, mean)
        parts = []
        for moment in (second, covariance):
            every = 0.5 * np.einsum("k,bkikj,bij->", pi, moment, hessian, optimize=True)
            centroid = 0.5 * np.einsum("k,l,bkilj,bij->", pi, pi, moment, hessian, optimize=True)
            parts.append((float(centroid), float(every - centroid)))
        (centroid_bias, disagreement_bias), (centroid_noise, disagreement_noise) = parts
        return RiskParts(centroid_bias, centroid_noise, disagreement_bias, disagreement_noise)

    def radii(self) -> Array:
        """Compute the spectral radius of each block on the subspace that shifts and noise can reach.

        For example, copies of one model that start equal stay equal: their differences are not reached.

        Returns:
            [B]; stable below 1.
        """
        found = []
        for F, Q, c in zip(self.F, self.Q, self.c, strict=True):
            basis = _reachable(F, Q + np.outer(c, c))
            reached = basis.T @ F @ basis
            found.append(np.abs(np.linalg.eigvals(reached)).max() if reached.size else 0.0)
        return np.asarray(found)

    def _follow(self, mean: Array, covariance: Array) -> tuple[Array, Array]:
        """Return the moments after the recursion's steps."""
        later = np.einsum("bij,bj->bi", self.F, mean) + self.c
        return later, self.F @ covariance @ self.F.swapaxes(1, 2) + self.Q

    def _agrees(self, other: "Recursion") -> bool:
        """Return whether two recursions give the parameters the same moments, up to rounding."""
        size = self.quadratics.shifts[:, 0].size
        variance = np.diagonal(other.Q, axis1=1, axis2=2)[:, :size].max(axis=1, keepdims=True)
        length = np.maximum(np.abs(other.c[:, :size]).max(axis=1, keepdims=True), np.sqrt(variance))
        settled = np.abs(other.Q - self.Q)[:, :size, :size] <= _SETTLED * variance[..., None]
        return bool(settled.all() and (np.abs(other.c - self.c)[:, :size] <= _SETTLED * length).all())


def _reachable(F: Array, excited: Array) -> Array:
    """Return an orthonormal basis, [S, D], of the smallest F-invariant subspace that contains a matrix's range."""
    basis = np.zeros((len(F), 0))
    new = excited
    while new.size:
        new = new - basis @ (basis.T @ new)
        left, sizes, _ = np.linalg.svd(new, full_matrices=False)
        scale = sizes.max() if basis.shape[1] == 0 else 1.0
        fresh = left[:, sizes > 1e-9 * scale]
        if basis.shape[1] + fresh.shape[1] > len(F):
            fresh = fresh[:, : len(F) - basis.shape[1]]
        basis = np.linalg.qr(np.concatenate([basis, fresh], axis=1))[0]
        new = F @ fresh
        norm = np.linalg.norm(new)
        new = new / norm if norm > 0 else new[:, :0]
    return basis
