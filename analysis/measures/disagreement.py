"""The cost of the agents' disagreement: loss above the centroid's, and curvature along it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.measures.measure import Count, Needs, NetworkMeasure
from basinet.analysis.measures.measured import Network, repeated
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import Row

__all__ = ["CostOfDisagreement", "Disagreement", "ImplicitRegularization", "disagreement", "implicit_regularization"]


@dataclass(frozen=True)
class Disagreement:
    """The agents of a network about their centroid θ̄, with δ_k = θ_k − θ̄.

    Attributes:
        sharpness: Consensus sharpness Σ π_k L(θ_k) − L(θ̄), measured.
        quadratic: ½ Σ π_k δ_kᵀ H δ_k, its value for small δ.
        distance: Consensus distance Σ π_k ‖δ_k‖².
        captured: Fraction of the consensus distance in the span of the top eigenvectors; NaN if the agents agree.
    """

    sharpness: float
    quadratic: float
    distance: float
    captured: float

    def alignment(self, trace: float, size: int) -> float:
        """Compare the curvature along the disagreement with the mean curvature.

        Args:
            trace: Tr H at the centroid.
            size: P.

        Returns:
            (Σ π_k δ_kᵀ H δ_k / Σ π_k ‖δ_k‖²) / (Tr H / P): 1 if the disagreement is isotropic, smaller if the agents
            differ in flat directions; NaN if they agree or the loss has no curvature.
        """
        scale = trace * self.distance
        return size * 2 * self.quadratic / scale if scale else float("nan")


def disagreement(
    agents: Curvature, centroid: Curvature, weights: Tensor, eigenvectors: Tensor | None = None
) -> Disagreement:
    r"""Measure the consensus sharpness, and how the agents' disagreement aligns with the curvature.

    $$
    \sum_k π_k L(θ_k) - L(\barθ) = \tfrac{1}{2} \sum_k π_k δ_kᵀ H(\barθ) δ_k + O(|δ|³), \qquad \sum_k π_k δ_k = 0,
    $$

    where the first-order term vanishes. Decentralized SGD thus minimises the loss averaged over the spread of the
    agents (Zhu et al.: Decentralized SGD and average-direction SAM are asymptotically equivalent, ICML 2023,
    arXiv:2306.02913), which is flatter than the loss. If agents have their own losses, L is L_k on the left, and the
    first-order term remains: it is what each agent gains by leaving the centroid.

    Args:
        agents: The Hessians at the agents, K points.
        centroid: The Hessian at their centroid, one point.
        weights: The agents' weights π in the centroid, [K].
        eigenvectors: Orthonormal top eigenvectors of the Hessian at the centroid, [k, P]; None skips `captured`.

    Returns:
        The measures.

    Raises:
        ValueError: If the numbers of agents and weights differ, or there are several centroids.
    """
    if len(weights) != agents.num_points or centroid.num_points != 1:
        found = f"{agents.num_points} agents, {len(weights)} weights, {centroid.num_points} centroids"
        raise ValueError(f"The centroid must be one point, and each agent must have one weight; got {found}.")
    weights = weights.to(agents.points.device, torch.float64)
    deltas = agents.points.to(torch.float64) - centroid.points.to(torch.float64)
    images = centroid.products(deltas.unsqueeze(1)).squeeze(1)
    distance = weights @ deltas.square().sum(1)
    captured = deltas.new_zeros(()) if eigenvectors is None else weights @ (deltas @ eigenvectors.T).square().sum(1)
    gap = weights @ (agents.losses() - centroid.losses())
    numbers = torch.stack([gap, weights @ (deltas * images).sum(1) / 2, distance, captured / distance])
    return Disagreement(*numbers.tolist())


def implicit_regularization(agents: Tensor, centroid: Curvature, weights: Tensor) -> tuple[float, Tensor]:
    r"""Compute the term that decentralised training adds to its centroid's loss, and the gradient of that term.

    Mixing preserves the centroid, which therefore descends the mean of the agents' gradients,

    $$
    E \barθ_{n+1} = \barθ - μ \, ∇\left[ L(\barθ) + \tfrac{1}{2} \operatorname{Tr}(H(\barθ) Ξ) \right] + O(|δ|³),
    \qquad Ξ = \sum_k π_k δ_k δ_kᵀ,
    $$

    where Ξ is held fixed in the derivative. Pass the agents as they are when they evaluate their gradients.

    Args:
        agents: The agents' parameters θ_k, [K, P].
        centroid: The Hessian at their centroid θ̄, one point.
        weights: The agents' weights π in the centroid, [K].

    Returns:
        ½ Tr(H Ξ), and its gradient [P], float64: half of the third derivative of the loss, contracted with Ξ.

    References:
        Zhu, He, Song, Niu, Tao: Decentralized SGD and average-direction SAM are asymptotically equivalent, ICML 2023,
        arXiv:2306.02913.
    """
    weights = weights.to(agents.device, torch.float64)
    deltas = (agents.to(torch.float64) - centroid.points.to(torch.float64)).unsqueeze(1)
    forms = (deltas * centroid.products(deltas)).sum((1, 2))
    return float(weights @ forms) / 2, centroid.form_gradients(deltas, weights / 2)[0]


class CostOfDisagreement(NetworkMeasure):
    """Loss of the agents above that of their centroid, and the curvature along their disagreement δ_k = x_k − x̄.

    Args:
        wanted: The requested names.
        eigenvectors: Number of top eigenvectors of the Hessian for the fraction of the disagreement in their span.

    References:
        Zhu et al.: Decentralized SGD and average-direction SAM are asymptotically equivalent, ICML 2023,
        arXiv:2306.02913.
    """

    quantities: ClassVar = {
        "consensus_sharpness": Quantity(
            "consensus sharpness Σ π_k J(x_k) − J(x̄)",
            "consensus sharpness",
            direction="smaller",
            about="Σ π_k J(x_k) − J(x̄), and ½ Σ π_k δ_kᵀ H δ_k beside it",
        ),
        "disagreement_alignment": Quantity(
            "alignment of disagreement and curvature",
            "disagreement alignment",
            about="Curvature along the disagreement over the mean curvature; fraction in top eigenvectors",
        ),
    }
    undefined = frozenset({"disagreement_alignment"})  # if the agents agree

    def __init__(self, wanted: Collection[str], eigenvectors: Count = 5) -> None:
        self.wanted, self.eigenvectors = self.among(wanted), eigenvectors
        self.needs = Needs(centroid=True)
        if "disagreement_alignment" in self.wanted:
            self.needs |= Needs(snapshot=True, probes=True, top=eigenvectors)

    def of(self, network: Network) -> Row:
        """See `NetworkMeasure`."""
        centroid, agents, found = network.center.hessian, network.agents(), Row()
        if "disagreement_alignment" in self.wanted:
            space, (spectrum,) = network.center.snapshot
            vectors = space.vectors(0, space.ritz(0)[1][:, -self.eigenvectors :])
            costs = disagreement(agents, centroid, network.weights, vectors)
            found["disagreement_alignment"] = costs.alignment(spectrum.trace.value, centroid.points.shape[1])
            found["disagreement_captured"] = costs.captured
        else:
            costs = disagreement(agents, centroid, network.weights)
        if "consensus_sharpness" in self.wanted:
            found |= {"consensus_sharpness": costs.sharpness, "consensus_sharpness_quadratic": costs.quadratic}
            if network.own is not None:
                found["consensus_sharpness_own"] = _own_gain(network.own(), centroid, network.weights)
        return found


def _own_gain(agents: Curvature, centroid: Curvature, weights: Tensor) -> float:
    """Compute Σ π_k [L_k(θ_k) − L_k(θ̄)]."""
    there = Curvature(agents.objective, *repeated(centroid, agents.num_points))
    return float(weights.to(agents.points.device, torch.float64) @ (agents.losses() - there.losses()))


class ImplicitRegularization(NetworkMeasure):
    """Implicit regularisation ½ Tr HΞ that disagreement adds to the loss, and the norm of its gradient.

    Ξ is the covariance of the disagreement: ``Ξ = Σ π_k δ_k δ_kᵀ``.

    References:
        Zhu et al.: Decentralized SGD and average-direction SAM are asymptotically equivalent, ICML 2023,
        arXiv:2306.02913.
    """

    label = "implicit regularisation ½ Tr\N{NO-BREAK SPACE}HΞ"
    heading = "implicit regularisation"

    def of(self, network: Network) -> Row:
        """See `NetworkMeasure`."""
        added, slope = implicit_regularization(network.agents().points, network.center.hessian, network.weights)
        return {"implicit_regularization": added, "implicit_regularization_gradient": float(slope.norm())}
