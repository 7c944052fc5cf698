"""Momentum adapted to the network: it follows the mixed parameters."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from scipy.sparse import csr_array

from basinet.algorithms.strategies.strategy import STRATEGIES, Block, require_symmetric
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["DecentLaM", "QuasiGlobalMomentum"]

Beta = Annotated[float, Field(ge=0, lt=1)]


@STRATEGIES.register("quasi_global_momentum")
@dataclass(frozen=True)
class QuasiGlobalMomentum:
    """Diffusion whose momentum follows the mixed parameters instead of the agent's own gradients.

    x_{n+1} = W (adapt(x_n, g_n) − β m_n), m_{n+1} = β m_n + (1 − β) (x_n − x_{n+1}). The optimizer should be plain SGD.
    (The momentum includes the learning rate here, which is equivalent while that is constant.)

    Args:
        momentum: β, in [0, 1).

    References:
        T. Lin, S. P. Karimireddy, S. U. Stich, M. Jaggi: Quasi-global momentum: accelerating decentralized deep
        learning on heterogeneous data, ICML 2021, arXiv:2102.04761.
    """

    momentum: Beta = 0.9

    def step(self, block: Block) -> None:
        """Advance by one step."""
        m = block.memory.setdefault("momentum", torch.zeros_like(block.x))
        before = block.x.clone()
        block.adapt(block.gradients())
        block.x.sub_(m, alpha=self.momentum)
        block.combine(block.x)
        m.mul_(self.momentum).add_(before.sub_(block.x), alpha=1 - self.momentum)


@STRATEGIES.register("decentlam")
@dataclass(frozen=True)
class DecentLaM:
    """Momentum on the whole diffusion step, so that its bias is no larger than without momentum.

    s_n = W adapt(x_n, g_n) − x_n, m_{n+1} = β m_n + s_n, x_{n+1} = x_n + m_{n+1}. The optimizer should be plain SGD.
    (The momentum includes the learning rate here, which is equivalent while that is constant.)

    Args:
        momentum: β, in [0, 1).

    References:
        K. Yuan et al.: DecentLaM: decentralized momentum SGD for large-batch deep training, ICCV 2021,
        arXiv:2104.11981.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(static=True)
    momentum: Beta = 0.9

    def check(self, weights: csr_array) -> None:
        """Raise if momentum is unstable with the given weights.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_symmetric(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        m = block.memory.setdefault("momentum", torch.zeros_like(block.x))
        before = block.x.clone()
        block.adapt(block.gradients())
        block.combine(block.x)
        m.mul_(self.momentum).add_(block.x).sub_(before)
        torch.add(before, m, out=block.x)
