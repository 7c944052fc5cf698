"""CHOCO-SGD: diffusion that sends compressed differences."""

from dataclasses import dataclass

from basinet.algorithms.strategies.compressed.copies import PublicCopies
from basinet.algorithms.strategies.strategy import STRATEGIES, Block

__all__ = ["ChocoSGD"]


@STRATEGIES.register("choco")
@dataclass(frozen=True)
class ChocoSGD(PublicCopies):
    """Adapt, send the compressed change, and move towards the neighbours' public copies.

    x ← adapt(x, g(x)), x̂ ← x̂ + C(x − x̂), x ← x + γ (W x̂ − x̂). x̂ is what the neighbours know of an agent; only
    C(·) is sent, and what it leaves out stays in the difference. Without compression and with γ = 1 it is diffusion
    (ATC).

    Args:
        compressor: See `basinet.algorithms.compression`.
        share: Share of the entries that top_k and random_k keep, in (0, 1].
        levels: Levels of qsgd and quantize.
        rank: Rank of low_rank.
        gamma: Consensus step γ, in (0, 1]: the coarser the compression, the smaller; 0.1 for random_k
            and low_rank.

    References:
        A. Koloskova, S. U. Stich, M. Jaggi: Decentralized stochastic optimization and gossip algorithms with compressed
        communication, ICML 2019, arXiv:1902.00340. A. Koloskova, T. Lin, S. U. Stich, M. Jaggi: Decentralized deep
        learning with arbitrary communication compression, ICLR 2020, arXiv:1907.09356.
    """

    def step(self, block: Block) -> None:
        """Advance by one step."""
        known = block.memory.setdefault("known", block.x.clone())
        block.adapt(block.gradients())
        self.mix(block, block.x, known)
