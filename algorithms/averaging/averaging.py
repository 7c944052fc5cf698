"""Registry of averages of the parameters over the steps."""

from basinet.topologies.registry import Registry

__all__ = ["AVERAGINGS"]

AVERAGINGS: Registry[float | None] = Registry("AVERAGINGS")
"""The averages that an experiment can name."""
