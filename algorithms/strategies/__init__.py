"""Strategies: how agents use gradients and neighbours, each written in a few lines over the verbs of a block."""

from typing import TYPE_CHECKING

from basinet.algorithms.strategies.strategy import STRATEGIES, Block, Strategy
from basinet.algorithms.strategies.strategy_traits import StrategyTraits
from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.algorithms.strategies.baselines.centralized import Centralized
    from basinet.algorithms.strategies.baselines.consensus import Consensus
    from basinet.algorithms.strategies.baselines.diffusion import Diffusion
    from basinet.algorithms.strategies.baselines.isolated import Isolated
    from basinet.algorithms.strategies.compressed.beer import BEER
    from basinet.algorithms.strategies.compressed.choco import ChocoSGD
    from basinet.algorithms.strategies.compressed.dcd import DCD
    from basinet.algorithms.strategies.compressed.deepsqueeze import DeepSqueeze
    from basinet.algorithms.strategies.compressed.lead import LEAD
    from basinet.algorithms.strategies.compressed.powergossip import PowerGossip
    from basinet.algorithms.strategies.compressed.subspace import (
        SubspaceCentralized,
        SubspaceConsensus,
        SubspaceDiffusion,
    )
    from basinet.algorithms.strategies.corrected.exact_diffusion import D2, NIDS, ExactDiffusion
    from basinet.algorithms.strategies.corrected.extra import Extra
    from basinet.algorithms.strategies.corrected.gradient_tracking import GradientTracking
    from basinet.algorithms.strategies.corrected.local_tracking import LocalTracking
    from basinet.algorithms.strategies.corrected.relay import RelaySGD
    from basinet.algorithms.strategies.corrected.variance_reduction import GTHSGD, GTSARAH
    from basinet.algorithms.strategies.directed.push_pull import PushPull
    from basinet.algorithms.strategies.directed.push_sum import PushDIGing, PushSum
    from basinet.algorithms.strategies.event_driven.ad_psgd import ADPSGD
    from basinet.algorithms.strategies.event_driven.async_server import AsyncServer
    from basinet.algorithms.strategies.event_driven.events import EventDriven, Events, Row
    from basinet.algorithms.strategies.event_driven.gossip import Gossip
    from basinet.algorithms.strategies.event_driven.wait_free import WaitFreeDiffusion
    from basinet.algorithms.strategies.intermittent.asynchronous import AsynchronousDiffusion
    from basinet.algorithms.strategies.intermittent.periodic import GossipPGA, LocalSGD, SlowMo
    from basinet.algorithms.strategies.variants.momentum import DecentLaM, QuasiGlobalMomentum
    from basinet.algorithms.strategies.variants.robust import Robust
    from basinet.algorithms.strategies.variants.sam import SAM

__all__ = [
    "ADPSGD",
    "BEER",
    "D2",
    "DCD",
    "GTHSGD",
    "GTSARAH",
    "LEAD",
    "NIDS",
    "SAM",
    "STRATEGIES",
    "AsyncServer",
    "AsynchronousDiffusion",
    "Block",
    "Centralized",
    "ChocoSGD",
    "Consensus",
    "DecentLaM",
    "DeepSqueeze",
    "Diffusion",
    "EventDriven",
    "Events",
    "ExactDiffusion",
    "Extra",
    "Gossip",
    "GossipPGA",
    "GradientTracking",
    "Isolated",
    "LocalSGD",
    "LocalTracking",
    "PowerGossip",
    "PushDIGing",
    "PushPull",
    "PushSum",
    "QuasiGlobalMomentum",
    "RelaySGD",
    "Robust",
    "Row",
    "SlowMo",
    "Strategy",
    "StrategyTraits",
    "SubspaceCentralized",
    "SubspaceConsensus",
    "SubspaceDiffusion",
    "WaitFreeDiffusion",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.algorithms.strategies.baselines.centralized": ("Centralized",),
        "basinet.algorithms.strategies.baselines.consensus": ("Consensus",),
        "basinet.algorithms.strategies.baselines.diffusion": ("Diffusion",),
        "basinet.algorithms.strategies.baselines.isolated": ("Isolated",),
        "basinet.algorithms.strategies.compressed.beer": ("BEER",),
        "basinet.algorithms.strategies.compressed.choco": ("ChocoSGD",),
        "basinet.algorithms.strategies.compressed.dcd": ("DCD",),
        "basinet.algorithms.strategies.compressed.deepsqueeze": ("DeepSqueeze",),
        "basinet.algorithms.strategies.compressed.lead": ("LEAD",),
        "basinet.algorithms.strategies.compressed.powergossip": ("PowerGossip",),
        "basinet.algorithms.strategies.compressed.subspace": (
            "SubspaceCentralized",
            "SubspaceConsensus",
            "SubspaceDiffusion",
        ),
        "basinet.algorithms.strategies.corrected.exact_diffusion": (
            "D2",
            "NIDS",
            "ExactDiffusion",
        ),
        "basinet.algorithms.strategies.corrected.extra": ("Extra",),
        "basinet.algorithms.strategies.corrected.gradient_tracking": ("GradientTracking",),
        "basinet.algorithms.strategies.corrected.local_tracking": ("LocalTracking",),
        "basinet.algorithms.strategies.corrected.relay": ("RelaySGD",),
        "basinet.algorithms.strategies.corrected.variance_reduction": (
            "GTHSGD",
            "GTSARAH",
        ),
        "basinet.algorithms.strategies.directed.push_pull": ("PushPull",),
        "basinet.algorithms.strategies.directed.push_sum": (
            "PushDIGing",
            "PushSum",
        ),
        "basinet.algorithms.strategies.event_driven.ad_psgd": ("ADPSGD",),
        "basinet.algorithms.strategies.event_driven.async_server": ("AsyncServer",),
        "basinet.algorithms.strategies.event_driven.events": (
            "EventDriven",
            "Events",
            "Row",
        ),
        "basinet.algorithms.strategies.event_driven.gossip": ("Gossip",),
        "basinet.algorithms.strategies.event_driven.wait_free": ("WaitFreeDiffusion",),
        "basinet.algorithms.strategies.intermittent.asynchronous": ("AsynchronousDiffusion",),
        "basinet.algorithms.strategies.intermittent.periodic": (
            "GossipPGA",
            "LocalSGD",
            "SlowMo",
        ),
        "basinet.algorithms.strategies.variants.momentum": (
            "DecentLaM",
            "QuasiGlobalMomentum",
        ),
        "basinet.algorithms.strategies.variants.robust": ("Robust",),
        "basinet.algorithms.strategies.variants.sam": ("SAM",),
    },
)

STRATEGIES.fill(__name__)
