"""Runtimes: the ways in which workers are started. The algorithms cannot tell them apart."""

from basinet.sim.runtimes.team import InlineTeam, Stopped, Team

__all__ = ["InlineTeam", "Stopped", "Team"]
