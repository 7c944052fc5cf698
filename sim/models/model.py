"""The models that an experiment can name."""

from torch import nn

from basinet.topologies.registry import Registry

__all__ = ["MODELS"]

MODELS: Registry[nn.Module] = Registry()
"""The models that an experiment can name."""
