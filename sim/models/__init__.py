"""Models: ordinary modules, written for a single agent."""

from basinet.sim.models.convolutional.cnn import CNN
from basinet.sim.models.convolutional.resnet import ResNet
from basinet.sim.models.convolutional.wide_resnet import WideResNet
from basinet.sim.models.language.decoder import Llama
from basinet.sim.models.linear import Linear, Softmax
from basinet.sim.models.mlp import MLP
from basinet.sim.models.model import MODELS
from basinet.sim.models.point import Point

__all__ = ["CNN", "MLP", "MODELS", "Linear", "Llama", "Point", "ResNet", "Softmax", "WideResNet"]

MODELS.fill(__name__)
