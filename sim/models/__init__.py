"""Models: ordinary modules, written for a single agent."""

from basinet.sim.models.attention.forecaster import S3Forecaster
from basinet.sim.models.attention.linformer import Linformer
from basinet.sim.models.attention.performer import Performer
from basinet.sim.models.attention.s3attention import S3Attention, S3Classifier
from basinet.sim.models.attention.tokenwise import Tokenwise
from basinet.sim.models.attention.transformer import Transformer
from basinet.sim.models.language.decoder import Llama
from basinet.sim.models.linear import Linear, LinearForecaster, Softmax
from basinet.sim.models.mlp import MLP
from basinet.sim.models.model import MODELS
from basinet.sim.models.point import Point
from basinet.sim.models.vision.convolutional.cnn import CNN
from basinet.sim.models.vision.convolutional.resnet import ResNet
from basinet.sim.models.vision.convolutional.wide_resnet import WideResNet
from basinet.sim.models.vision.ensemble.ensemble_regressor import EnsembleRegressor
from basinet.sim.models.vision.languages.video_text import VideoText
from basinet.sim.models.vision.masked.hivit import HiViT
from basinet.sim.models.vision.masked.hivit_video import HiViTVideo
from basinet.sim.models.vision.masked.masked_hivit import MaskedHiViT
from basinet.sim.models.vision.restoration.distillation_upscaler import DistillationUpscaler
from basinet.sim.models.vision.restoration.residual_upscaler import ResidualUpscaler
from basinet.sim.models.vision.restoration.window_upscaler import WindowUpscaler
from basinet.sim.models.vision.video.fragment_network import FragmentNetwork
from basinet.sim.models.vision.video.frame_network import FrameNetwork
from basinet.sim.models.vision.video.quality_perceptron import QualityPerceptron

__all__ = [
    "CNN",
    "MLP",
    "MODELS",
    "DistillationUpscaler",
    "EnsembleRegressor",
    "FragmentNetwork",
    "FrameNetwork",
    "HiViT",
    "HiViTVideo",
    "Linear",
    "LinearForecaster",
    "Linformer",
    "Llama",
    "MaskedHiViT",
    "Performer",
    "Point",
    "QualityPerceptron",
    "ResNet",
    "ResidualUpscaler",
    "S3Attention",
    "S3Classifier",
    "S3Forecaster",
    "Softmax",
    "Tokenwise",
    "Transformer",
    "VideoText",
    "WideResNet",
    "WindowUpscaler",
]

MODELS.fill(__name__)
