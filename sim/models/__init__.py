"""Models: ordinary modules that know nothing of agents."""

from torch import nn

from basinet.sim.models.cnn import CNN
from basinet.sim.models.linear import Linear, Softmax
from basinet.sim.models.mlp import MLP
from basinet.sim.models.point import Point

__all__ = ["CNN", "MLP", "MODELS", "Linear", "Point", "Softmax"]

MODELS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "softmax": Softmax,
    "linear": Linear,
    "point": Point,
}
"""The models that an experiment can name."""
