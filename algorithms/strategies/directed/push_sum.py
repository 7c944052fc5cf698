"""Push-sum: agents on a directed graph send shares of their values, and normalise what they receive."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from basinet.algorithms.strategies.corrected.gradient_tracking import track
from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["PushDIGing", "PushSum"]


@STRATEGIES.register("push_sum")
@dataclass(frozen=True)
class PushSum:
    """Adapt at z, send shares of u, divide by the received shares of one: stochastic gradient push (SGP).

    u ← P (u + adapt(z, g(z)) − z), v ← P v, z = u / v, with v = 1 at first. The columns of P sum to one: each agent
    splits its value among its receivers, without knowing what else these receive. All agents count the same in the mean
    that is conserved, Σ_k u_k / K. Where the rows sum to one, too, it is diffusion (ATC).

    References:
        M. Assran, N. Loizou, N. Ballas, M. Rabbat: Stochastic gradient push for distributed deep learning, ICML 2019,
        arXiv:1811.10792. D. Kempe, A. Dobra, J. Gehrke: Gossip-based computation of aggregate information, FOCS 2003,
        doi:10.1109/SFCS.2003.1238221.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(weights="columns", combines_x=False, mixes_all=True)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        v = block.memory.setdefault("mass", block.x.new_ones(len(block.x), 1))
        z = block.x.clone()
        block.adapt(self.direction(block))
        u = z * v + (block.x - z)
        with block.together():
            block.combine(u)
            block.combine(v, truly=True)
        block.x.copy_(u / v)

    def direction(self, block: Block) -> Tensor:
        """Return the direction of the step: the agents' own gradients.

        Args:
            block: The agents.

        Returns:
            [N, P].
        """
        return block.gradients()


@STRATEGIES.register("push_diging")
@dataclass(frozen=True)
class PushDIGing(PushSum):
    """Push-sum along trackers y of the gradients: u ← P (u + adapt(z, y) − z), v ← P v, z = u / v.

    y ← P y + g_n − g_{n−1}, with y = g_0 at first. With full gradients all agents converge to the minimum of the mean
    loss, on any strongly connected directed graph, whereas push-sum stops at a bias of the order of the step size.
    Agents send twice in a step, since u depends on the mixed y.
    ADD-OPT differs in that it steps after mixing, u ← P u + adapt(z, y) − z.

    References:
        A. Nedić, A. Olshevsky, W. Shi: Achieving geometric convergence for distributed optimization over time-varying
        graphs, SIAM J. Optim. 27 (2017), doi:10.1137/16M1084316. C. Xi, R. Xin, U. A. Khan: ADD-OPT: accelerated
        distributed directed optimization, IEEE TAC 63 (2018), arXiv:1607.04757.
    """

    def direction(self, block: Block) -> Tensor:
        """Return the direction of the step: the trackers.

        Args:
            block: The agents.

        Returns:
            [N, P].
        """
        return track(block, block.gradients().clone(), block.combine)
