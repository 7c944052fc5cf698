"""Push–pull: gradient tracking on directed graphs, with row- and column-stochastic weights."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from basinet.algorithms.strategies.corrected.gradient_tracking import track
from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["PushPull"]


@STRATEGIES.register("push_pull")
@dataclass(frozen=True)
class PushPull:
    """Pull the parameters, push the trackers: y ← C y + g_n − g_{n−1}, x ← R adapt(x, y), with y = g_0 at first.

    The rows of R sum to one: agents average what they receive. The columns of C sum to one: agents split their tracker
    among those that they send to, so that the trackers keep the sum of the gradients. R are the weights of the
    topology's policy, C the transposed weights of the reversed graph. All agents count the same in the minimised loss,
    without doubly stochastic weights. The AB algorithm steps after the parameters are mixed, x ← adapt(R x, y), which
    then travel with the trackers; otherwise agents send twice in a step.

    Args:
        order: "atc", or "ab" for the AB algorithm.

    References:
        S. Pu, W. Shi, J. Xu, A. Nedić: Push–pull gradient methods for distributed optimization in networks, IEEE TAC 66
        (2021), arXiv:1810.06653. R. Xin, U. A. Khan: A linear algorithm for optimization over directed graphs with
        geometric convergence, IEEE Control Syst. Lett. 2 (2018), arXiv:1803.02503.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(weights="both")
    order: Literal["atc", "ab"] = "atc"

    def step(self, block: Block) -> None:
        """Advance by one step."""
        y = track(block, block.gradients().clone(), partial(_mix_both, block) if self.order == "ab" else block.push)
        block.adapt(y)
        if self.order == "atc":
            block.combine(block.x)


def _mix_both(block: Block, y: Tensor) -> None:
    """Push the trackers and pull the parameters, in one message."""
    with block.together():
        block.push(y)
        block.combine(block.x)
