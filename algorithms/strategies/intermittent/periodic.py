"""Periodic communication: local steps, and global averages at intervals."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["GossipPGA", "LocalSGD", "SlowMo"]

Period = Annotated[int, Field(ge=1)]


@STRATEGIES.register("local_sgd")
@dataclass(frozen=True)
class LocalSGD:
    """Take local steps, and every `period` steps replace all parameters by their mean.

    With period 1 and SGD it is centralised SGD. With SGD it is federated averaging (FedAvg) in which all agents take
    part and count the same, however many samples they hold.

    Args:
        period: Steps between averages.

    References:
        B. McMahan et al.: Communication-efficient learning of deep networks from decentralized data, AISTATS 2017,
        arXiv:1602.05629. S. U. Stich: Local SGD converges fast and communicates little, ICLR 2019, arXiv:1805.09767.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(averages=True, uses_graph=False)
    period: Period = 4

    def step(self, block: Block) -> None:
        """Advance by one step."""
        block.adapt(block.gradients())
        if (block.step + 1) % self.period == 0:
            block.average(block.x)


@STRATEGIES.register("gossip_pga")
@dataclass(frozen=True)
class GossipPGA:
    """Adapt then combine, and every `period` steps take the mean over all agents instead of the neighbours'.

    Args:
        period: Steps between averages.

    References:
        Y. Chen, K. Yuan, Y. Zhang, P. Pan, Y. Xu, W. Yin: Accelerating gossip SGD with periodic global averaging, ICML
        2021, arXiv:2105.09080.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(averages=True)
    period: Period = 8

    def step(self, block: Block) -> None:
        """Advance by one step."""
        block.adapt(block.gradients())
        if (block.step + 1) % self.period == 0:
            block.average(block.x)
        else:
            block.combine(block.x)


@STRATEGIES.register("slowmo")
@dataclass(frozen=True)
class SlowMo:
    """Diffusion, and every `period` steps an average followed by a step with slow momentum.

    With x' the common parameters one period before and x̄ the mean now: u ← β u + x' − x̄, x ← x' − α u. (The slow
    momentum includes the learning rate here, which is equivalent while that is constant.)

    Args:
        period: Steps between averages.
        momentum: β, in [0, 1).
        rate: α, the slow learning rate.

    References:
        J. Wang, V. Tantia, N. Ballas, M. Rabbat: SlowMo: improving communication-efficient distributed SGD with slow
        momentum, ICLR 2020, arXiv:1910.00643.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(averages=True)
    period: Period = 8
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    rate: Annotated[float, Field(gt=0)] = 1.0

    def step(self, block: Block) -> None:
        """Advance by one step."""
        before = block.memory.setdefault("before", block.x.clone())
        u = block.memory.setdefault("slow momentum", torch.zeros_like(block.x))
        block.adapt(block.gradients())
        if (block.step + 1) % self.period:
            block.combine(block.x)
            return
        block.average(block.x)
        u.mul_(self.momentum).add_(before).sub_(block.x)
        before.sub_(u, alpha=self.rate)
        block.x.copy_(before)
