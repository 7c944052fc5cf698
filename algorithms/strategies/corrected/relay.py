"""RelaySGD: on a tree, updates are relayed until all agents have them, instead of being averaged by gossip."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from basinet.algorithms.strategies.strategy import STRATEGIES, Block
from basinet.algorithms.strategies.strategy_traits import StrategyTraits

__all__ = ["RelaySGD"]


@STRATEGIES.register("relay")
@dataclass(frozen=True)
class RelaySGD:
    """Adapt, relay sums of received updates, and average over all agents, each delayed by its distance.

    With d_k = adapt(x_k, g_k) − x_0 and m_{l→k} the message from neighbour l in the last step: k sends m_{k→j} = d_k +
    Σ_{l≠j} m_{l→k} to each neighbour j, receives new m_{j→k}, and x_k ← x_0 + (d_k + Σ_j m_{j→k}) / K. After as many
    steps as the tree's diameter, each agent counts once in every sum; before its update arrives, it counts with the
    common start x_0. Mixing weights are not used.

    References:
        T. Vogels, L. He, A. Koloskova, S. P. Karimireddy, T. Lin, S. U. Stich, M. Jaggi: RelaySum for decentralized
        deep learning on heterogeneous data, NeurIPS 2021, arXiv:2110.04175.
    """

    traits: ClassVar[StrategyTraits] = StrategyTraits(static=True, mixes_all=True, combines_x=False, tolerates="none")

    def check(self, weights: csr_array) -> None:
        """Raise if the graph is not a tree.

        Args:
            weights: Mixing matrix [K, K] of a connected graph.

        Raises:
            ValueError: The graph has cycles or one-way edges.
        """
        others = weights.copy()
        others.setdiag(0)
        others.eliminate_zeros()
        agents = weights.shape[0]
        one_way = (others != 0).astype(int) - (others.T != 0).astype(int)
        if others.nnz != 2 * (agents - 1) or np.abs(one_way).max() > 0:
            raise ValueError(
                f"needs a tree, whose {agents} agents have {agents - 1} edges, and this graph has {others.nnz / 2:g};"
                " tree, star or path is one"
            )

    def step(self, block: Block) -> None:
        """Advance by one step."""
        start = block.memory.setdefault("start", block.x.clone())
        block.adapt(block.gradients())
        d = block.x - start
        messages = d[:, None].repeat(1, block.neighbors.heard.shape[1], 1)
        if "received" in block.memory:
            received = block.memory["received"]
            messages += received.sum(1, keepdim=True) - received
        received = block.memory["received"] = block.exchange(messages)
        block.x.copy_(start + (d + received.sum(1)) / block.num_agents)
