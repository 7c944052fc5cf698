"""Sharpness-aware minimisation on a network: gradients at a nearby point of higher loss."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from basinet.algorithms.row_norms import inverse_norms
from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["SAM"]


@STRATEGIES.register("sam")
@dataclass(frozen=True)
class SAM:
    """Adapt with the gradient at x_k + ρ g_k / ‖g_k‖, on the same batch; each agent perturbs by itself.

    With diffusion, agents then combine (D-SAM; DFedSAM with one local step a round); centralised, all step with the
    mean of these gradients, which is SAM with m-sharpness, m the batch size of an agent. A step takes two passes;
    running statistics are updated by both.

    Args:
        rho: Radius ρ of the neighbourhood.
        network: "diffusion" (ATC) or "centralized".

    References:
        P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur: Sharpness-aware minimization for efficiently improving
        generalization, ICLR 2021, arXiv:2010.01412. Y. Shi, L. Shen, K. Wei, Y. Sun, B. Yuan, X. Wang, D. Tao:
        Improving the model consistency of decentralized federated learning, ICML 2023, arXiv:2302.04083.
    """

    rho: Annotated[float, Field(gt=0)] = 0.05
    network: Literal["diffusion", "centralized"] = "diffusion"

    @property
    def traits(self) -> StrategyTraits:
        """The traits; whether agents combine or average is a setting."""
        centralized = self.network == "centralized"
        return StrategyTraits(own_points=True, averages=centralized, uses_graph=not centralized)

    def step(self, block: Block) -> None:
        """Advance by one step."""
        x = block.x.clone()
        g = block.gradients()
        block.x.addcmul_(g, inverse_norms([g])[:, None], value=self.rho)
        g = block.gradients()
        block.x.copy_(x)
        if self.network == "centralized":
            block.average(g)
        block.adapt(g)
        if self.network == "diffusion":
            block.combine(block.x)
