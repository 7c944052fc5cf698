"""Optimizers: the local part of an algorithm, torch.optim.Optimizer classes on the agents' stacked state."""

from torch import optim

from basinet.algorithms.optimizers.local import LocalOptimizer
from basinet.algorithms.optimizers.normalized import NSGD

__all__ = ["NSGD", "OPTIMIZERS", "LocalOptimizer"]

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "nsgd": NSGD,
    "sgd": optim.SGD,
}
