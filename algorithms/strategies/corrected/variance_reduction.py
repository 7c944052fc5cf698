"""Gradient tracking with variance-reduced gradient estimates."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from basinet.algorithms.strategies.corrected.gradient_tracking import Tracking
from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["GTHSGD", "GTSARAH"]


def _follow(block: Block, keep: float) -> Tensor:
    """Compute v_n = g(x_n; ξ_n) + κ (v_{n−1} − g(x_{n−1}; ξ_n)), both on the same batch; v_0 = g(x_0; ξ_0)."""
    v = block.gradients().clone()
    if "tracked" in block.memory:
        x = block.x.clone()
        block.x.copy_(block.memory["point"])
        v.sub_(block.gradients(), alpha=keep).add_(block.memory["tracked"], alpha=keep)
        block.x.copy_(x)
    return v


@STRATEGIES.register("gt_hsgd")
@dataclass(frozen=True)
class GTHSGD(Tracking):
    """Gradient tracking of v_n = g(x_n; ξ_n) + (1 − β) (v_{n−1} − g(x_{n−1}; ξ_n)): hybrid stochastic gradients.

    Both gradients use the same batch. β = 1 is gradient tracking. A step takes two passes.

    Args:
        order: "atc", as in the paper; the others are those of `GradientTracking`.
        beta: β, in (0, 1].

    References:
        R. Xin, U. A. Khan, S. Kar: A hybrid variance-reduced method for decentralized stochastic non-convex
        optimization, ICML 2021, arXiv:2102.06752.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(own_points=True, tolerates="symmetric")
    beta: Annotated[float, Field(gt=0, le=1)] = 0.1

    def estimate(self, block: Block) -> Tensor:
        """Correct the last estimate by the change of a batch's gradient, and forget it slowly.

        Args:
            block: The agents.

        Returns:
            v_n, [N, P].
        """
        v = _follow(block, 1 - self.beta)
        block.memory["point"] = block.x.clone()
        return v


@STRATEGIES.register("gt_sarah")
@dataclass(frozen=True)
class GTSARAH(Tracking):
    """Gradient tracking of v_n = v_{n−1} + g(x_n; ξ_n) − g(x_{n−1}; ξ_n), periodically the gradient of all data.

    Both gradients use the same batch. A step takes two passes; every `period` steps there is a pass over all of an
    agent's data. With period 1 it is gradient tracking with full gradients.

    Args:
        order: "atc", as in the paper; the others are those of `GradientTracking`.
        period: Steps between gradients of all data.

    References:
        R. Xin, U. A. Khan, S. Kar: Fast decentralized nonconvex finite-sum optimization with recursive variance
        reduction, SIAM J. Optim. 32 (2022), arXiv:2008.07428. L. M. Nguyen, J. Liu, K. Scheinberg, M. Takáč: SARAH,
        ICML 2017, arXiv:1703.00102.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(full_gradients=True, own_points=True, tolerates="symmetric")
    period: Annotated[int, Field(ge=1)] = 32

    def estimate(self, block: Block) -> Tensor:
        """Correct the last estimate by the change of a batch's gradient, or start anew.

        Args:
            block: The agents.

        Returns:
            v_n, [N, P].
        """
        v = _follow(block, 1.0) if block.step % self.period else block.full_gradients()
        block.memory["point"] = block.x.clone()
        return v
