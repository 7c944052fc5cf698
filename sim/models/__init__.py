"""Models: ordinary modules, written for a single agent."""

from basinet.sim.models.cnn import CNN
from basinet.sim.models.linear import Linear, Softmax
from basinet.sim.models.mlp import MLP
from basinet.sim.models.model import MODELS
from basinet.sim.models.point import Point
from basinet.sim.models.resnet import ResNet
from basinet.sim.models.wide_resnet import WideResNet

__all__ = ["CNN", "MLP", "MODELS", "Linear", "Point", "ResNet", "Softmax", "WideResNet"]

MODELS.fill(__name__)
