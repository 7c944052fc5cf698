"""Models: ordinary modules, written for a single agent."""

from torch import nn

from basinet.sim.models.cnn import CNN
from basinet.sim.models.linear import Linear, Softmax
from basinet.sim.models.mlp import MLP
from basinet.sim.models.point import Point
from basinet.sim.models.resnet import ResNet
from basinet.sim.models.wide_resnet import WideResNet

__all__ = ["CNN", "MLP", "MODELS", "Linear", "Point", "ResNet", "Softmax", "WideResNet"]

MODELS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet": ResNet,
    "wide_resnet": WideResNet,
    "softmax": Softmax,
    "linear": Linear,
    "point": Point,
}
"""The models that an experiment can name."""
