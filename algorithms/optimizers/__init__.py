"""Optimizers: the local part of an algorithm, torch.optim.Optimizer classes on the agents' stacked state."""

from typing import TYPE_CHECKING

from basinet.algorithms.optimizers.local import LocalOptimizer
from basinet.algorithms.optimizers.optimizer_traits import OPTIMIZERS, OptimizerTraits
from basinet.algorithms.optimizers.torch_optimizers import TORCH, TORCH_BOUNDS
from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.algorithms.optimizers.derivative_free.lozo import LOZO, LOZOM
    from basinet.algorithms.optimizers.derivative_free.mezo import MeZO
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
    "TORCH",
    "TORCH_BOUNDS",
    "TUNINGS",
    "ClippedSGD",
    "GaLore",
    "GoLore",
    "LocalOptimizer",
    "MeZO",
    "NSGDm",
    "OptimizerTraits",
    "SharedSubspaces",
    "heavy_tail_rate",
    "heavy_tail_settings",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.algorithms.optimizers.derivative_free.lozo": (
            "LOZO",
            "LOZOM",
        ),
        "basinet.algorithms.optimizers.derivative_free.mezo": ("MeZO",),
        "basinet.algorithms.optimizers.normalized.clipped": ("ClippedSGD",),
        "basinet.algorithms.optimizers.normalized.nsgd": (
            "NSGD",
            "NSGDC",
            "NSGDm",
        ),
        "basinet.algorithms.optimizers.normalized.two_points": (
            "ANSGDC",
            "NSGDCVR",
        ),
        "basinet.algorithms.optimizers.subspaces.galore": (
            "GaLore",
            "GoLore",
        ),
        "basinet.algorithms.optimizers.subspaces.shared_subspaces": ("SharedSubspaces",),
        "basinet.algorithms.optimizers.tunings": (
            "TUNINGS",
            "heavy_tail_rate",
            "heavy_tail_settings",
        ),
    },
)

OPTIMIZERS.fill(__name__)
