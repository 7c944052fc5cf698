"""Optimizers: the local part of an algorithm, torch.optim.Optimizer classes on the agents' stacked state."""

from typing import Any

from pydantic import Field
from torch import optim

from basinet.algorithms.optimizers.derivative_free.lozo import LOZO, LOZOM
from basinet.algorithms.optimizers.derivative_free.mezo import MeZO
from basinet.algorithms.optimizers.local import LocalOptimizer
from basinet.algorithms.optimizers.normalized.clipped import ClippedSGD
from basinet.algorithms.optimizers.normalized.nsgd import NSGD, NSGDC, NSGDm
from basinet.algorithms.optimizers.normalized.two_points import ANSGDC, NSGDCVR
from basinet.algorithms.optimizers.subspaces.galore import GaLore, GoLore
from basinet.algorithms.optimizers.subspaces.shared_subspaces import SharedSubspaces
from basinet.algorithms.optimizers.tunings import TUNINGS, heavy_tail_rate, heavy_tail_settings

__all__ = [
    "ANSGDC",
    "LOZO",
    "LOZOM",
    "NSGD",
    "NSGDC",
    "NSGDCVR",
    "OPTIMIZERS",
    "TORCH_BOUNDS",
    "TUNINGS",
    "ClippedSGD",
    "GaLore",
    "GoLore",
    "LocalOptimizer",
    "MeZO",
    "NSGDm",
    "SharedSubspaces",
    "heavy_tail_rate",
    "heavy_tail_settings",
]

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "a_nsgdc": ANSGDC,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "clipped_sgd": ClippedSGD,
    "galore": GaLore,
    "golore": GoLore,
    "lozo": LOZO,
    "lozo_m": LOZOM,
    "mezo": MeZO,
    "nsgd": NSGD,
    "nsgdc": NSGDC,
    "nsgdc_vr": NSGDCVR,
    "nsgdm": NSGDm,
    "sgd": optim.SGD,
}
"""The optimizers that an experiment can name."""

TORCH_BOUNDS: dict[str, Any] = {
    "lr": Field(ge=0),
    "betas": Field(ge=0, lt=1),
    "dampening": Field(ge=0, lt=1),
    "eps": Field(ge=0),
    "momentum": Field(ge=0, lt=1),
    "weight_decay": Field(ge=0),
}
"""Bounds of numbers in the signatures of torch's optimizers, which declare none."""
