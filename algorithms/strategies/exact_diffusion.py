"""Exact diffusion: diffusion with a correction that removes the bias of data that differ between agents."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.sparse import csr_array

from basinet.algorithms.strategies.strategy import Block, require_symmetric
from basinet.topologies import smallest_eigenvalue

__all__ = ["D2", "ExactDiffusion"]


@dataclass(frozen=True)
class ExactDiffusion:
    """Adapt, correct, combine: ψ_k = adapt(x_k, g_k(x_k)), φ_k = ψ_k + x_k − ψ'_k, x_k ← Σ_l W̄[k, l] φ_l.

    ψ' is the ψ of the step before (in the first step, φ = ψ), and W̄ = (I + W) / 2. With full gradients all agents
    reach the minimum itself, where diffusion stops at a bias of the order of the step.

    With one step size for all agents it is also known as NIDS.

    References:
        K. Yuan, B. Ying, X. Zhao, A. H. Sayed: Exact diffusion for distributed optimization and learning, IEEE TSP 67
        (2019), doi:10.1109/TSP.2018.2875898. Z. Li, W. Shi, M. Yan: A decentralized proximal-gradient method with
        network independent step-sizes and separated convergence rates, IEEE TSP 67 (2019),
        doi:10.1109/TSP.2019.2926022.
    """

    lazy: ClassVar[bool] = True

    def check(self, weights: csr_array) -> None:
        """Refuse weights with which the correction is not exact.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_symmetric(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        correction = block.memory.setdefault("correction", torch.zeros_like(block.x))  # x − ψ'
        block.adapt(block.gradients())
        phi = block.x + correction
        mixed = phi.clone()
        block.combine(mixed)
        # Small differences are added up, not small differences of large numbers.
        correction.add_(mixed.sub_(phi), alpha=0.5 if self.lazy else 1.0)
        block.x.add_(correction)


@dataclass(frozen=True)
class D2(ExactDiffusion):
    """Exact diffusion with W in the place of W̄: x_{n+1} = W (2 x_n − x_{n−1} − μ (g_n − g_{n−1})) for SGD.

    It mixes faster, and needs λ_min(W) > −1/3.

    References:
        H. Tang, X. Lian, M. Yan, C. Zhang, J. Liu: D²: Decentralized training over decentralized data, ICML 2018,
        arXiv:1803.07068.
    """

    lazy: ClassVar[bool] = False

    def check(self, weights: csr_array) -> None:
        """Refuse weights with which the recursion is not stable.

        Args:
            weights: Mixing matrix [K, K].

        Raises:
            ValueError: Their smallest eigenvalue is −1/3 or less.
        """
        super().check(weights)
        smallest = smallest_eigenvalue(weights)
        if smallest <= -1 / 3 + 1e-9:
            raise ValueError(
                f"needs weights whose smallest eigenvalue is above -1/3, and theirs is {smallest:.4g}; lazy weights "
                "(I + W) / 2 make it positive, which is exact_diffusion"
            )
