"""Exact diffusion: diffusion with a correction that removes the bias of heterogeneous data."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from scipy.sparse import csr_array

from basinet.algorithms.strategies.strategy import STRATEGIES, Block, require_symmetric
from basinet.algorithms.strategies.strategy_traits import StrategyTraits
from basinet.topologies import smallest_eigenvalue

__all__ = ["D2", "NIDS", "ExactDiffusion"]


@STRATEGIES.register("exact_diffusion")
@dataclass(frozen=True)
class ExactDiffusion:
    """Adapt, correct, combine: ψ_k = adapt(x_k, g_k(x_k)), φ_k = ψ_k + x_k − ψ'_k, x_k ← Σ_l W̄[k, l] φ_l.

    ψ' is the ψ of the step before (in the first step, φ = ψ), and W̄ = (I + W) / 2. With full gradients all agents
    converge to the minimum, whereas diffusion stops at a bias of the order of the step size.

    With a period τ, agents take τ local steps, each with 1/τ of the correction, before they combine: local exact
    diffusion (LED) with the weights W̄.

    Args:
        period: Steps τ between combinations.

    References:
        K. Yuan, B. Ying, X. Zhao, A. H. Sayed: Exact diffusion for distributed optimization and learning, IEEE TSP 67
        (2019), doi:10.1109/TSP.2018.2875898. S. A. Alghunaim: Local exact-diffusion for decentralized optimization and
        learning, IEEE TAC 69 (2024), arXiv:2302.00620.
    """

    lazy: ClassVar[bool] = True
    traits: ClassVar[StrategyTraits] = StrategyTraits(combines_x=False, static=True, tolerates="symmetric")
    period: Annotated[int, Field(ge=1)] = 1

    def check(self, weights: csr_array) -> None:
        """Raise if the correction is not exact with the given weights.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_symmetric(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        correction = block.memory.setdefault("correction", torch.zeros_like(block.x))  # x − ψ'
        block.adapt(block.gradients())
        block.x.add_(correction, alpha=1 / self.period)
        if (block.step + 1) % self.period == 0:
            change = block.x.clone()
            block.combine(change)
            change.sub_(block.x)  # adds up small differences instead of subtracting large numbers
            share = 0.5 if self.lazy else 1.0
            correction.add_(change, alpha=share)
            block.x.add_(change, alpha=share)


@STRATEGIES.register("d2")
@dataclass(frozen=True)
class D2(ExactDiffusion):
    """Exact diffusion with W instead of W̄: x_{n+1} = W (2 x_n − x_{n−1} − μ (g_n − g_{n−1})) for SGD.

    It mixes faster, and needs λ_min(W) > −1/3. With a period it is LED with the weights W, and where W averages over
    all agents, as Metropolis weights on the complete graph do, SCAFFOLD with all clients and a server rate of 1.

    Args:
        period: Steps between combinations.

    References:
        H. Tang, X. Lian, M. Yan, C. Zhang, J. Liu: D²: Decentralized training over decentralized data, ICML 2018,
        arXiv:1803.07068. S. P. Karimireddy et al.: SCAFFOLD (option II), ICML 2020, arXiv:1910.06378.
    """

    lazy: ClassVar[bool] = False

    def check(self, weights: csr_array) -> None:
        """Raise if the recursion is not stable with the given weights.

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


@STRATEGIES.register("nids")
@dataclass(frozen=True)
class NIDS:
    """Exact diffusion that does not combine in its first step: x_1 = adapt(x_0, g_0).

    Then, for SGD, x_{n+1} = W̄ (2 x_n − x_{n−1} − μ (g_n − g_{n−1})) with W̄ = (I + W) / 2, the paper's W̃ for
    c = 1 / (2 μ) and one step size for all agents. In exact diffusion x_1 = W̄ adapt(x_0, g_0).

    References:
        Z. Li, W. Shi, M. Yan: A decentralized proximal-gradient method with network independent step-sizes and
        separated convergence rates, IEEE TSP 67 (2019), doi:10.1109/TSP.2019.2926022.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(combines_x=False, static=True, tolerates="symmetric")

    def check(self, weights: csr_array) -> None:
        """Raise if the correction is not exact with the given weights.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_symmetric(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        if block.step:
            ExactDiffusion().step(block)
        else:
            block.memory["correction"] = torch.zeros_like(block.x)  # x_1 − ψ'
            block.adapt(block.gradients())
