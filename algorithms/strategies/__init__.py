"""Strategies: how agents use gradients and neighbours, each a few lines over the verbs of a block."""

from collections.abc import Callable

from basinet.algorithms.strategies.centralized import Centralized
from basinet.algorithms.strategies.choco import ChocoSGD
from basinet.algorithms.strategies.consensus import Consensus
from basinet.algorithms.strategies.diffusion import Diffusion
from basinet.algorithms.strategies.exact_diffusion import D2, ExactDiffusion
from basinet.algorithms.strategies.extra import Extra
from basinet.algorithms.strategies.gradient_tracking import GradientTracking
from basinet.algorithms.strategies.isolated import Isolated
from basinet.algorithms.strategies.momentum import DecentLaM, QuasiGlobalMomentum
from basinet.algorithms.strategies.periodic import GossipPGA, LocalSGD, SlowMo
from basinet.algorithms.strategies.push_sum import PushSum
from basinet.algorithms.strategies.sam import SAM
from basinet.algorithms.strategies.strategy import Block, Strategy

__all__ = [
    "D2",
    "SAM",
    "STRATEGIES",
    "Block",
    "Centralized",
    "ChocoSGD",
    "Consensus",
    "DecentLaM",
    "Diffusion",
    "ExactDiffusion",
    "Extra",
    "GossipPGA",
    "GradientTracking",
    "Isolated",
    "LocalSGD",
    "PushSum",
    "QuasiGlobalMomentum",
    "SlowMo",
    "Strategy",
]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "centralized": Centralized,
    "choco": ChocoSGD,
    "consensus": Consensus,
    "d2": D2,
    "decentlam": DecentLaM,
    "diffusion": Diffusion,
    "exact_diffusion": ExactDiffusion,
    "extra": Extra,
    "gossip_pga": GossipPGA,
    "gradient_tracking": GradientTracking,
    "isolated": Isolated,
    "local_sgd": LocalSGD,
    "nids": ExactDiffusion,
    "push_sum": PushSum,
    "quasi_global_momentum": QuasiGlobalMomentum,
    "sam": SAM,
    "slowmo": SlowMo,
}
"""The strategies that an experiment can name."""
