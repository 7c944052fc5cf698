"""Strategies: how agents use gradients and neighbours, each a few lines over the verbs of a block."""

from collections.abc import Callable

from basinet.algorithms.strategies.centralized import Centralized
from basinet.algorithms.strategies.consensus import Consensus
from basinet.algorithms.strategies.diffusion import Diffusion
from basinet.algorithms.strategies.isolated import Isolated
from basinet.algorithms.strategies.strategy import Block, Strategy

__all__ = ["STRATEGIES", "Block", "Centralized", "Consensus", "Diffusion", "Isolated", "Strategy"]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "centralized": Centralized,
    "consensus": Consensus,
    "diffusion": Diffusion,
    "isolated": Isolated,
}
