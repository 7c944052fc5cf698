"""Consensus: each agent steps from its neighbours' mean along the gradient taken before mixing."""

from dataclasses import dataclass

from basinet.algorithms.strategies.strategy import STRATEGIES, Block

__all__ = ["Consensus"]


@STRATEGIES.register("consensus")
@dataclass(frozen=True)
class Consensus:
    """Combine, then adapt with the gradient from before combining: x_k ← adapt(Σ_l W[k, l] x_l, g_k(x_k)).

    With SGD also known as DGD, D-PSGD, adapt-with-combine (AWC).

    References:
        A. Nedić, A. Ozdaglar: Distributed subgradient methods for multi-agent optimization, IEEE TAC 54 (2009),
        doi:10.1109/TAC.2008.2009515. X. Lian et al.: Can decentralized algorithms outperform centralized
        algorithms?, NeurIPS 2017, arXiv:1705.09056.
    """

    def step(self, block: Block) -> None:
        """Advance by one step."""
        g = block.gradients()
        block.combine(block.x)
        block.adapt(g)
