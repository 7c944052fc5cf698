"""Faults of the simulated network, by name: messages that are lost, agents that are absent, noise on what is sent."""

from basinet.sim.faults.fault import FAULTS, Fault, LinkFault
from basinet.sim.faults.link_loss import LinkLoss

__all__ = ["FAULTS", "Fault", "LinkFault", "LinkLoss"]

FAULTS.fill(__name__)
