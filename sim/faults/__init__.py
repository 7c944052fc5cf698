"""Faults of the simulated network, by name: messages that are lost, late or changed, and agents that are absent."""

from basinet.sim.faults.availability import Availability
from basinet.sim.faults.crashes import Crashes
from basinet.sim.faults.fault import FAULTS, AgentFault, Fault, LinkFault
from basinet.sim.faults.link_delay import LinkDelay
from basinet.sim.faults.link_loss import LinkLoss
from basinet.sim.faults.link_noise import LinkNoise
from basinet.sim.faults.link_rounding import LinkRounding
from basinet.sim.faults.loss_bursts import LossBursts
from basinet.sim.faults.network_loss import NetworkLoss
from basinet.sim.faults.pauses import Pauses
from basinet.sim.faults.stalls import Stalls

__all__ = [
    "FAULTS",
    "AgentFault",
    "Availability",
    "Crashes",
    "Fault",
    "LinkDelay",
    "LinkFault",
    "LinkLoss",
    "LinkNoise",
    "LinkRounding",
    "LossBursts",
    "NetworkLoss",
    "Pauses",
    "Stalls",
]

FAULTS.fill(__name__)
