"""Gradient tracking: each agent steps along an estimate of the network's mean gradient."""

from dataclasses import dataclass
from typing import Literal

from scipy.sparse import csr_array

from basinet.algorithms.strategies.strategy import Block, require_doubly_stochastic

__all__ = ["GradientTracking"]


@dataclass(frozen=True)
class GradientTracking:
    """Adapt with a tracker y of the mean gradient, which travels beside the parameters; y starts as g_0.

    DIGing: y ← W y + g_n − g_{n−1}, x ← adapt(W x, y).  ATC: y ← W (y + g_n − g_{n−1}), x ← W adapt(x, y).
    The mean of the trackers is always that of the gradients. ATC is also known as Aug-DGM and ATC-tracking.

    Args:
        order: "atc" (both are mixed after they have changed) or "diging" (before).

    References:
        A. Nedić, A. Olshevsky, W. Shi: Achieving geometric convergence for distributed optimization over time-varying
        graphs, SIAM J. Optim. 27 (2017), doi:10.1137/16M1084316. J. Xu, S. Zhu, Y. C. Soh, L. Xie: Augmented
        distributed gradient methods for multi-agent optimization under uncoordinated constant stepsizes, CDC 2015,
        doi:10.1109/CDC.2015.7402509. S. Pu, A. Nedić: Distributed stochastic gradient tracking methods, Math. Program.
        187 (2021), doi:10.1007/s10107-020-01487-0.
    """

    order: Literal["atc", "diging"] = "atc"

    def check(self, weights: csr_array) -> None:
        """Refuse weights with which the trackers lose the mean.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_doubly_stochastic(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        g = block.gradients()
        if "tracker" not in block.memory:
            block.memory["tracker"] = g.clone()
            if self.order == "atc":
                block.combine(block.memory["tracker"])
        else:
            y, change = block.memory["tracker"], g - block.memory["gradient"]
            if self.order == "atc":
                y += change
                block.combine(y)
            else:
                block.combine(y)
                y += change
        block.memory["gradient"] = g.clone()
        if self.order == "diging":
            block.combine(block.x)
        block.adapt(block.memory["tracker"])
        if self.order == "atc":
            block.combine(block.x)
