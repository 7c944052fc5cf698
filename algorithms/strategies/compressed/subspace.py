"""Exchange within subspaces: agents whose optimizers share one send r × n numbers instead of a matrix m × n."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from basinet.algorithms.optimizers.subspaces.shared_subspaces import SharedSubspaces
from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["SubspaceCentralized", "SubspaceConsensus", "SubspaceDiffusion"]


@STRATEGIES.register("subspace_centralized")
@dataclass(frozen=True)
class SubspaceCentralized:
    """Step with the mean of the projected gradients: x ← adapt(x, P (1/K) Σ_k Pᵀ g_k(x)).

    This is exactly centralised SGD, since the optimizer uses only Pᵀ g. It needs an optimizer whose agents draw the
    same subspaces, such as golore with shared: true; parameters without a subspace are sent whole.

    References:
        Y. He, P. Li, Y. Hu, C. Chen, K. Yuan: Subspace optimization for large language models with convergence
        guarantees, ICML 2025, arXiv:2410.11289.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(
        shares_subspaces=True, mixes_all=True, combines_x=False, averages=True, uses_graph=False
    )

    def step(self, block: Block) -> None:
        """Advance by one step."""
        subspaces = SharedSubspaces(block.optimizer)
        subspaces.refresh()
        g = block.gradients()
        mean = subspaces.project(g)
        block.average(mean)
        subspaces.lift(mean, g)
        block.adapt(g)


@STRATEGIES.register("subspace_consensus")
@dataclass(frozen=True)
class SubspaceConsensus:
    """Consensus that mixes within the subspace: x ← adapt(x + P (W y − y), g(x)) with y = Pᵀ x.

    See `SubspaceDiffusion` for when this is consensus itself, and what it needs.

    Args:
        average: Whether each period of the optimizer ends with the mean over all agents.

    References:
        Y. He, P. Li, Y. Hu, C. Chen, K. Yuan: Subspace optimization for large language models with convergence
        guarantees, ICML 2025, arXiv:2410.11289.
    """

    average: bool = True

    @property
    def traits(self) -> StrategyTraits:
        """The traits; whether it averages over all agents is a setting."""
        return StrategyTraits(shares_subspaces=True, mixes_all=True, combines_x=False, averages=self.average)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        subspaces = SharedSubspaces(block.optimizer)
        subspaces.refresh()
        g = block.gradients()
        _mix(block, subspaces, block.combine)
        block.adapt(g)
        if self.average and subspaces.refresh_due:
            _mix(block, subspaces, block.average)


@STRATEGIES.register("subspace_diffusion")
@dataclass(frozen=True)
class SubspaceDiffusion:
    """Diffusion (ATC) that mixes within the subspace: x ← adapt(x, g(x)), x ← x + P (W y − y) with y = Pᵀ x.

    Agents that are equal at the start of a period of the optimizer differ only within its subspace, x_k = c + P y_k, so
    that mixing y mixes x. With `average`, the last step of each period takes the mean of y over all agents, so that the
    next one begins with equal agents, too: the run is exactly that of gossip_pga with this period, at r / m of its
    bytes. Without it, differences outside the new subspace remain until a later one contains them: the mean still moves
    as under W, but agents agree more slowly than with diffusion.

    It needs an optimizer whose agents draw the same subspaces, such as golore with shared: true; parameters without
    a subspace are sent whole.

    Args:
        average: Whether each period of the optimizer ends with the mean over all agents.

    References:
        Y. He, P. Li, Y. Hu, C. Chen, K. Yuan: Subspace optimization for large language models with convergence
        guarantees, ICML 2025, arXiv:2410.11289. Y. Chen, K. Yuan, Y. Zhang, P. Pan, Y. Xu, W. Yin: Accelerating gossip
        SGD with periodic global averaging, ICML 2021, arXiv:2105.09080.
    """

    average: bool = True

    @property
    def traits(self) -> StrategyTraits:
        """The traits; whether it averages over all agents is a setting."""
        return StrategyTraits(shares_subspaces=True, mixes_all=True, combines_x=False, averages=self.average)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        subspaces = SharedSubspaces(block.optimizer)
        subspaces.refresh()
        block.adapt(block.gradients())
        last = self.average and subspaces.refresh_due
        _mix(block, subspaces, block.average if last else block.combine)


def _mix(block: Block, subspaces: SharedSubspaces, verb: Callable[[Tensor], None]) -> None:
    """Mix the parameters within the subspaces: x ← x + P (mixed y − y)."""
    y = subspaces.project(block.x)
    mixed = y.clone()
    verb(mixed)
    change = torch.empty_like(block.x)
    subspaces.lift(mixed.sub_(y), change)
    block.x.add_(change)
