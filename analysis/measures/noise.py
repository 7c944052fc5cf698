"""Covariance of the gradient noise, and its alignment with the curvature."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature.krylov import Krylov
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.trace import Estimate, mean_estimate
from basinet.analysis.measures.measure import Needs, PointMeasure, Spread, add
from basinet.analysis.measures.measured import Points
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import Row

__all__ = ["GradientNoise", "NoiseCurvature", "gradient_noise"]


@dataclass(frozen=True)
class GradientNoise:
    """The covariance Σ of per-sample gradients, relative to a curvature matrix H.

    Attributes:
        trace: Tr Σ, exact.
        curvature: Tr HΣ.
    """

    trace: float
    curvature: Estimate

    def alignment(self, trace: float, size: int) -> float:
        """Compare the curvature along the noise with the mean curvature: P Tr HΣ / (Tr H Tr Σ).

        Args:
            trace: Tr H.
            size: P.

        Returns:
            1 if noise or curvature is isotropic, larger if the noise prefers sharp directions; NaN without noise or
            curvature.
        """
        scale = trace * self.trace
        return size * self.curvature.value / scale if scale else float("nan")


def gradient_noise(
    curvature: Curvature, space: Krylov, keys: Tensor, *, num_probes: int = 10, memory: int = 2**27
) -> list[GradientNoise]:
    r"""Measure the gradient noise at each point, and the curvature along it.

    With per-sample gradients g_i, weights w_i, mean ḡ, random signs ε_i and a Krylov basis Q with T = Qᵀ H Q,

    $$
    Σ = \sum_i w_i (g_i - ḡ)(g_i - ḡ)ᵀ, \qquad u = \sum_i ε_i \sqrt{w_i} \, (g_i - ḡ), \qquad E[u uᵀ] = Σ, \\
    \mathrm{Tr} HΣ = \mathrm{Tr}(T \, Qᵀ Σ Q) + E[uᵀ H u - (Qᵀ u)ᵀ T (Qᵀ u)] .
    $$

    The first term is exact and holds the large eigenvalues, so a few probes u suffice for the rest. All come from one
    pass over the per-sample gradients, in blocks. The noise of a batch of B samples drawn with replacement is Σ / B;
    the network noise of Cao, Wu, Yuan, Sayed (arXiv:2406.20006) and the escape of SGD from sharp minima (Zhu et al.,
    ICML 2019, arXiv:1803.00195) depend on Tr HΣ.

    Args:
        curvature: The matrices H, at N points.
        space: Their Krylov bases.
        keys: Keys of the signs, int64 [N].
        num_probes: Number of probes, at least 2; each costs one product.
        memory: Bytes for the gradients of a block of samples.

    Returns:
        The per-sample noise at each point.

    Raises:
        ValueError: If there are fewer than 2 probes, too few for a spread.
    """
    if num_probes < 2:
        raise ValueError(f"num_probes must be at least 2 to have a spread, got {num_probes}.")
    means = curvature.gradients().to(torch.float64)
    rank, size = space.basis.shape[1:]
    # Tr Σ, Qᵀ Σ Q and the probes in one tensor per point, so that one all-reduce over the workers suffices.
    sums = means.new_zeros(len(means), 1 + rank * rank + num_probes * size)
    for row, mean in enumerate(means):
        total, inner, probes = sums[row, :1], sums[row, 1 : -num_probes * size], sums[row, -num_probes * size :]
        for gradients, weights, signs in _blocks(curvature, row, keys[row], num_probes, memory):
            scaled = (gradients.to(torch.float64) - mean) * weights.sqrt()[:, None]
            coordinates = scaled @ space.basis[row].T
            total += scaled.square().sum()
            inner += (coordinates.T @ coordinates).flatten()
            probes += (signs.T @ scaled).flatten()
    sums = curvature.objective.share.sum(sums)
    probes = sums[:, 1 + rank * rank :].view(len(means), num_probes, size)
    images = curvature.products(probes.transpose(0, 1)).transpose(0, 1)
    samples = (probes * images).sum(2).cpu().numpy()
    coordinates = torch.einsum("njp,nmp->njm", probes, space.basis).cpu().numpy()
    inside = sums[:, 1 : 1 + rank * rank].view(len(means), rank, rank).cpu().numpy()
    # Rounding differences of equal gradients are not noise.
    least = (means.norm(dim=1) * 4 * torch.finfo(curvature.points.dtype).eps) ** 2
    traces = torch.where(sums[:, 0] > least, sums[:, 0], 0.0).tolist()
    found = []
    for row, trace in enumerate(traces):
        off = space.beta[row, :-1]
        t = np.diag(space.alpha[row]) + np.diag(off, 1) + np.diag(off, -1)
        known = float((t * inside[row]).sum())
        rest = samples[row] - np.einsum("jm,mk,jk->j", coordinates[row], t, coordinates[row])
        found.append(GradientNoise(trace, mean_estimate(rest, num_probes, known)))
    return found


def _blocks(
    curvature: Curvature, row: int, key: Tensor, num_probes: int, memory: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the gradients [b, P] of blocks of a point's samples, their weights [b] and signs [b, num_probes]."""
    objective = curvature.objective
    point, buffers = curvature.points[row], {name: b[row] for name, b in curvature.buffers.items()}
    place = curvature.rows.start + row
    block = max(1, memory // (8 * len(point)))
    for chunk in objective.samples.chunks(slice(place, place + 1), block):
        numbers = torch.arange(chunk.start, chunk.start + chunk.size, device=point.device)
        signs = 1.0 - 2.0 * draws.integers(draws.fold(key, numbers), 2, (num_probes,)).to(torch.float64)
        yield objective.sample_gradients(point, buffers, chunk), chunk.sample_weights(signs)[0], signs


class NoiseCurvature(PointMeasure):
    """Covariance Σ of the per-sample gradients, and the curvature along it.

    With weights w_i and mean gradient ḡ: ``Σ = Σ_i w_i (g_i − ḡ)(g_i − ḡ)ᵀ``.

    Args:
        wanted: The requested names.
        probes: Probes u with E[u uᵀ] = Σ; each costs one product.

    References:
        Zhu et al.: The anisotropic noise in stochastic gradient descent, ICML 2019, arXiv:1803.00195. Cao, Wu, Yuan,
        Sayed: On the trade-off between flatness and optimization in distributed learning, arXiv:2406.20006.
    """

    quantities: ClassVar = {
        "gradient_noise_trace": Quantity(
            "gradient noise Tr\N{NO-BREAK SPACE}Σ",
            "gradient noise",
            about="Tr Σ, Σ the covariance of the per-sample gradients",
        ),
        "noise_curvature": Quantity(
            "curvature of the gradient noise Tr\N{NO-BREAK SPACE}HΣ",
            "noise curvature",
            direction="smaller",
            about="Tr HΣ",
        ),
        "noise_alignment": Quantity(
            "alignment of gradient noise and curvature",
            "noise alignment",
            about="P Tr HΣ / (Tr H Tr Σ): 1 if the noise is isotropic",
        ),
    }
    undefined = frozenset({"noise_alignment"})  # without noise or curvature
    trial: ClassVar = {"probes": 2}

    def __init__(self, wanted: Collection[str], probes: Spread = 10) -> None:
        self.wanted, self.probes = self.among(wanted), probes
        self.needs = Needs(samples=True, snapshot=True, probes="noise_alignment" in self.wanted)

    def at(self, points: Points) -> list[Row]:
        """See `PointMeasure`."""
        space, spectrums = points.snapshot
        noises = gradient_noise(points.hessian, space, points.folded(2), num_probes=self.probes)
        found: list[Row] = []
        for noise, spectrum in zip(noises, spectrums, strict=True):
            row: Row = {}
            if "gradient_noise_trace" in self.wanted:
                row["gradient_noise_trace"] = noise.trace
            if "noise_curvature" in self.wanted:
                add(row, "noise_curvature", noise.curvature.value, noise.curvature.error)
            if "noise_alignment" in self.wanted:
                row["noise_alignment"] = noise.alignment(spectrum.trace.value, points.hessian.points.shape[1])
            found.append(row)
        return found
