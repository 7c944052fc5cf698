"""Optimizers: the local part of an algorithm, torch.optim.Optimizer classes on the agents' stacked state."""

from torch import optim

from basinet.algorithms.optimizers.galore import GaLore, GoLore
from basinet.algorithms.optimizers.local import LocalOptimizer
from basinet.algorithms.optimizers.normalized import NSGD
from basinet.algorithms.optimizers.shared import SharedSubspaces

__all__ = ["NSGD", "OPTIMIZERS", "GaLore", "GoLore", "LocalOptimizer", "SharedSubspaces"]

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "galore": GaLore,
    "golore": GoLore,
    "nsgd": NSGD,
    "sgd": optim.SGD,
}
