"""Centralised SGD: the baseline in which all agents share one model."""

from dataclasses import dataclass
from typing import ClassVar

from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["Centralized"]


@STRATEGIES.register("centralized")
@dataclass(frozen=True)
class Centralized:
    """Step with the mean gradient of all agents: x ← adapt(x, (1/K) Σ_k g_k(x)).

    One model whose batch is the union of the agents' batches. Where samples or labels have weights, with the sum c_k in
    the batch of agent k, the mean is Σ_k c_k g_k / Σ_k c_k. Each agent holds a copy of the model, as in data-parallel
    training, so that the copies stay equal bit by bit; batch statistics and dropout masks are each agent's own.

    With SGD also known as mini-batch SGD, all-reduce SGD, C-SGD.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(averages=True, uses_graph=False)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        g = block.gradients()
        block.pool(g)
        block.adapt(g)
