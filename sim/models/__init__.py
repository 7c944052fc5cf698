"""Models: ordinary modules, written for a single agent."""

from typing import TYPE_CHECKING

from basinet.exports import lazy
from basinet.sim.models.model import MODELS

if TYPE_CHECKING:
    from basinet.sim.models.attention.forecaster import S3Forecaster
    from basinet.sim.models.attention.linformer import Linformer
    from basinet.sim.models.attention.performer import Performer
    from basinet.sim.models.attention.s3attention import S3Attention, S3Classifier
    from basinet.sim.models.attention.tokenwise import Tokenwise
    from basinet.sim.models.attention.transformer import Transformer
    from basinet.sim.models.language.decoder import Llama
    from basinet.sim.models.linear import Linear, LinearForecaster, Softmax
    from basinet.sim.models.mlp import MLP
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

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.sim.models.attention.forecaster": ("S3Forecaster",),
        "basinet.sim.models.attention.linformer": ("Linformer",),
        "basinet.sim.models.attention.performer": ("Performer",),
        "basinet.sim.models.attention.s3attention": (
            "S3Attention",
            "S3Classifier",
        ),
        "basinet.sim.models.attention.tokenwise": ("Tokenwise",),
        "basinet.sim.models.attention.transformer": ("Transformer",),
        "basinet.sim.models.language.decoder": ("Llama",),
        "basinet.sim.models.linear": (
            "Linear",
            "LinearForecaster",
            "Softmax",
        ),
        "basinet.sim.models.mlp": ("MLP",),
        "basinet.sim.models.point": ("Point",),
        "basinet.sim.models.vision.convolutional.cnn": ("CNN",),
        "basinet.sim.models.vision.convolutional.resnet": ("ResNet",),
        "basinet.sim.models.vision.convolutional.wide_resnet": ("WideResNet",),
        "basinet.sim.models.vision.ensemble.ensemble_regressor": ("EnsembleRegressor",),
        "basinet.sim.models.vision.languages.video_text": ("VideoText",),
        "basinet.sim.models.vision.masked.hivit": ("HiViT",),
        "basinet.sim.models.vision.masked.hivit_video": ("HiViTVideo",),
        "basinet.sim.models.vision.masked.masked_hivit": ("MaskedHiViT",),
        "basinet.sim.models.vision.restoration.distillation_upscaler": ("DistillationUpscaler",),
        "basinet.sim.models.vision.restoration.residual_upscaler": ("ResidualUpscaler",),
        "basinet.sim.models.vision.restoration.window_upscaler": ("WindowUpscaler",),
        "basinet.sim.models.vision.video.fragment_network": ("FragmentNetwork",),
        "basinet.sim.models.vision.video.frame_network": ("FrameNetwork",),
        "basinet.sim.models.vision.video.quality_perceptron": ("QualityPerceptron",),
    },
)

MODELS.fill(__name__)
