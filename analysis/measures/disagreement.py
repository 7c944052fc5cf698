"""What the agents' disagreement costs: the loss above the centroid's, and the curvature along it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from basinet.analysis.curvature.matrices import Curvature

__all__ = ["Disagreement", "disagreement", "implicit_regularization"]


@dataclass(frozen=True)
class Disagreement:
    """The agents of a network about their centroid θ̄, with δ_k = θ_k − θ̄.

    Attributes:
        sharpness: Consensus sharpness Σ π_k L(θ_k) − L(θ̄), measured.
        quadratic: ½ Σ π_k δ_kᵀ H δ_k, what it is for small δ.
        distance: Consensus distance Σ π_k ‖δ_k‖².
        captured: Which part of the consensus distance lies in the span of the top eigenvectors; NaN where the agents
            agree.
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
            (Σ π_k δ_kᵀ H δ_k / Σ π_k ‖δ_k‖²) / (Tr H / P): 1 where the disagreement is isotropic, smaller where the
            agents differ in flat directions; NaN where they agree or the loss has no curvature.
        """
        scale = trace * self.distance
        return size * 2 * self.quadratic / scale if scale else float("nan")


def disagreement(
    agents: Curvature, centroid: Curvature, weights: Tensor, eigenvectors: Tensor | None = None
) -> Disagreement:
    r"""Measure the consensus sharpness, and how the agents' disagreement lies in the loss.

    $$
    \sum_k π_k L(θ_k) - L(\barθ) = \tfrac{1}{2} \sum_k π_k δ_kᵀ H(\barθ) δ_k + O(|δ|³), \qquad \sum_k π_k δ_k = 0,
    $$

    where the first-order term vanishes. By the left side, decentralized SGD minimises the loss averaged over the
    spread of the agents (Zhu et al.: Decentralized SGD and average-direction SAM are asymptotically equivalent,
    ICML 2023, arXiv:2306.02913), which is flatter than the loss. Where agents have losses of their own, L stands for
    L_k on the left, and the first-order term remains: it is then what each gains by leaving the centroid.

    Args:
        agents: The Hessians at the agents, K points.
        centroid: The Hessian at their centroid, one point.
        weights: The agents' weights π in the centroid, [K].
        eigenvectors: Orthonormal top eigenvectors of the Hessian at the centroid, [k, P]; None leaves them out.

    Returns:
        The measures.

    Raises:
        ValueError: If there are not as many agents as weights, or more than one centroid.
    """
    if len(weights) != agents.num_points or centroid.num_points != 1:
        found = f"{agents.num_points} agents, {len(weights)} weights, {centroid.num_points} centroids"
        raise ValueError(f"The centroid must be one point, and each agent have its weight; got {found}.")
    weights = weights.to(agents.points.device, torch.float64)
    deltas = agents.points.to(torch.float64) - centroid.points.to(torch.float64)
    images = centroid.products(deltas.unsqueeze(1)).squeeze(1)
    distance = weights @ deltas.square().sum(1)
    captured = deltas.new_zeros(()) if eigenvectors is None else weights @ (deltas @ eigenvectors.T).square().sum(1)
    gap = weights @ (agents.losses() - centroid.losses())
    numbers = torch.stack([gap, weights @ (deltas * images).sum(1) / 2, distance, captured / distance])
    return Disagreement(*numbers.tolist())


def implicit_regularization(agents: Tensor, centroid: Curvature, weights: Tensor) -> tuple[float, Tensor]:
    r"""Compute what decentralised training adds to the loss that its centroid descends, and the slope of that.

    Mixing conserves the centroid, which so descends the mean of the agents' gradients,

    $$
    E \barθ_{n+1} = \barθ - μ \, ∇\left[ L(\barθ) + \tfrac{1}{2} \operatorname{Tr}(H(\barθ) Ξ) \right] + O(|δ|³),
    \qquad Ξ = \sum_k π_k δ_k δ_kᵀ,
    $$

    where Ξ is held fixed in the derivative. The agents are to be taken where they evaluate their gradients.

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
