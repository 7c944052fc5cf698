"""Optimizers: the local part of an algorithm, torch.optim.Optimizer classes on the agents' stacked state."""

from torch import optim

from basinet.algorithms.optimizers.local import LocalOptimizer

__all__ = ["OPTIMIZERS", "LocalOptimizer"]

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
}
