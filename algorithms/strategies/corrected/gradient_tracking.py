"""Gradient tracking: each agent steps along an estimate of the network's mean gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms.strategies.strategy import STRATEGIES, Block, require_doubly_stochastic
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["GradientTracking", "Order", "Tracking", "track"]

Order = Literal["atc", "aug_dgm", "dsgt", "diging"]


def track(block: Block, v: Tensor, mix: Callable[[Tensor], None] | None) -> Tensor:
    """Update the trackers: y ← mix(y) + v_n − v_{n−1}, with y = v_0 at first.

    Args:
        block: The agents.
        v: v_n, [N, P], which is kept until the next call.
        mix: Mixes the trackers in place, without changing their sum; None skips this.

    Returns:
        The trackers y, [N, P], in the block's memory.
    """
    y = block.memory.setdefault("tracker", torch.zeros_like(v))
    if mix is not None:
        mix(y)
    y += v
    if "tracked" in block.memory:
        y -= block.memory["tracked"]
    block.memory["tracked"] = v
    return y


def _mix_both(block: Block, y: Tensor) -> None:
    """Combine trackers and parameters in one message."""
    with block.together():
        block.combine(y)
        block.combine(block.x)


@dataclass(frozen=True)
class Tracking(ABC):
    """Adapt with a tracker y of the network's mean of some v.

    In the order "diging", parameters and tracker travel in one message; in the others the parameters that are sent
    depend on the mixed tracker, and agents send twice in a step.

    Args:
        order: When parameters and tracker are mixed: "atc", "aug_dgm", "dsgt" or "diging"; see `GradientTracking`.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(tolerates="symmetric")
    order: Order = "atc"

    def check(self, weights: csr_array) -> None:
        """Raise if the trackers lose the mean with the given weights.

        Args:
            weights: Mixing matrix [K, K].
        """
        require_doubly_stochastic(weights)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        v = self.estimate(block)
        first = "tracked" not in block.memory
        early: dict[str, Callable[[Tensor], None]] = {"dsgt": block.combine, "diging": partial(_mix_both, block)}
        y = track(block, v, early.get(self.order))
        if self.order == "atc" or (self.order == "aug_dgm" and not first):
            block.combine(y)
        block.adapt(y)
        if self.order != "diging":
            block.combine(block.x)

    @abstractmethod
    def estimate(self, block: Block) -> Tensor:
        """Estimate each agent's gradient at x.

        Args:
            block: The agents.

        Returns:
            v_n, a new tensor [N, P].
        """


@STRATEGIES.register("gradient_tracking")
@dataclass(frozen=True)
class GradientTracking(Tracking):
    """Adapt with a tracker y of the mean gradient, which is mixed like the parameters.

    | order | tracker | its start | parameters |
    | --- | --- | --- | --- |
    | atc | y ← W (y + v_n − v_{n−1}) | W v_0 | x ← W adapt(x, y) |
    | aug_dgm (ATC-DIGing) | y ← W (y + v_n − v_{n−1}) | v_0 | x ← W adapt(x, y) |
    | dsgt (ATC-tracking) | y ← W y + v_n − v_{n−1} | v_0 | x ← W adapt(x, y) |
    | diging (GNSD) | y ← W y + v_n − v_{n−1} | v_0 | x ← adapt(W x, y) |

    v_n is the gradient g_n, or with momentum v_n = β v_{n−1} + g_n, which in the order dsgt is momentum tracking. The
    mean of the trackers is always that of the v.

    With momentum and the optimizer `nsgd`, ATC is GT-NSGDm: agents normalise the tracked mean, and converge to the
    minimum of the mean loss also under heavy-tailed noise, whereas diffusion with that optimizer converges to the
    geometric median of the agents' minima. On a fixed graph the optimizer's own momentum (`nsgdm`) is equivalent, since
    tracker and momentum are linear filters that start from zero.

    Args:
        order: "atc", "aug_dgm", "dsgt" or "diging", as above.
        momentum: β, in [0, 1). It is tracked, whereas the optimizer's own momentum applies to the tracker.

    References:
        diging: A. Nedić, A. Olshevsky, W. Shi: Achieving geometric convergence for distributed optimization over
        time-varying graphs, SIAM J. Optim. 27 (2017), doi:10.1137/16M1084316. aug_dgm: J. Xu, S. Zhu, Y. C. Soh,
        L. Xie: Augmented distributed gradient methods for multi-agent optimization under uncoordinated constant
        stepsizes, CDC 2015, doi:10.1109/CDC.2015.7402509. dsgt: S. Pu, A. Nedić: Distributed stochastic gradient
        tracking methods, Math. Program. 187 (2021), doi:10.1007/s10107-020-01487-0. GNSD: S. Lu, X. Zhang, H. Sun,
        M. Hong: GNSD: a gradient-tracking based nonconvex stochastic algorithm for decentralized optimization, IEEE DSW
        2019. Y. Takezawa, H. Bao, K. Niwa, R. Sato, M. Yamada: Momentum tracking: momentum acceleration for
        decentralized deep learning on heterogeneous data, TMLR 2023, arXiv:2209.15505. S. Yu, D. Jakovetić, S. Kar:
        Decentralized nonconvex optimization under heavy-tailed noise: normalization and optimal convergence,
        arXiv:2505.03736.
    """

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def estimate(self, block: Block) -> Tensor:
        """Compute the gradient, or its momentum.

        Args:
            block: The agents.

        Returns:
            v_n, [N, P].
        """
        v = block.gradients().clone()
        if self.momentum and "tracked" in block.memory:
            v.add_(block.memory["tracked"], alpha=self.momentum)
        return v
