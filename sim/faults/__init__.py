"""Faults of the simulated network, by name: messages that are lost, agents that are absent, noise on what is sent."""

from basinet.sim.faults.availability import Availability
from basinet.sim.faults.crashes import Crashes
from basinet.sim.faults.fault import FAULTS, AgentFault, Fault, LinkFault
from basinet.sim.faults.link_loss import LinkLoss
from basinet.sim.faults.link_noise import LinkNoise
from basinet.sim.faults.loss_bursts import LossBursts
from basinet.sim.faults.network_loss import NetworkLoss

__all__ = [
    "FAULTS",
    "AgentFault",
    "Availability",
    "Crashes",
    "Fault",
    "LinkFault",
    "LinkLoss",
    "LinkNoise",
    "LossBursts",
    "NetworkLoss",
]

FAULTS.fill(__name__)
