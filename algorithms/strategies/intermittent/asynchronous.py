"""Asynchronous diffusion: at each step some agents are active, the others idle."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["AsynchronousDiffusion"]


@STRATEGIES.register("asynchronous")
@dataclass(frozen=True)
class AsynchronousDiffusion:
    """Diffusion (ATC) in which each agent takes part in a step with a probability.

    With a_k = 1 for an active agent, else 0: x_k ← adapt(x_k, g_k(x_k)) where a_k = 1, and then x_k ← x_k + a_k Σ_l
    W[k, l] a_l (x_l − x_k): an agent keeps the weight of idle neighbours for itself. An idle agent keeps its parameters
    and optimizer state (running statistics are still updated). Bytes are counted in expectation.

    Args:
        activity: Probability that an agent is active, in (0, 1]; with 1 it is diffusion.

    References:
        X. Zhao, A. H. Sayed: Asynchronous adaptation and learning over networks, part I, IEEE TSP 63 (2015),
        doi:10.1109/TSP.2014.2385046.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(combines_x=False, mixes_all=True)
    activity: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def sent_share(self) -> float:
        """Share of the messages between all neighbours that is sent on average: both ends must be active."""
        return self.activity**2

    def active(self, keys: Tensor) -> Tensor:
        """Draw which agents take part in a step; see `Participation`."""
        return draws.uniform(keys, ()) < self.activity

    def step(self, block: Block) -> None:
        """Advance by one step."""
        active = self.active(block.keys("activation"))
        block.adapt(block.gradients(), active)
        a = active[:, None].to(block.x)
        share, mixed = a.clone(), a * block.x
        size = round(self.sent_share * block.x.shape[1] * block.x.element_size())
        with block.together():
            block.combine(mixed, sent=size)
            block.combine(share, sent=0, truly=True)
        block.x.add_(a * torch.addcmul(mixed, share, block.x, value=-1))
