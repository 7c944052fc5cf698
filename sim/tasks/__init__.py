"""Tasks: the data, the loss and the metrics of an experiment."""

from typing import TYPE_CHECKING

from basinet.exports import lazy
from basinet.sim.tasks.logistic import Logistic, logistic
from basinet.sim.tasks.supervised import OwnLoss, Regression, supervised
from basinet.sim.tasks.task import TASKS, Batch, Task

if TYPE_CHECKING:
    from basinet.sim.data.gradient_noise import Noise
    from basinet.sim.data.pad import Pad
    from basinet.sim.data.rows import IGNORED
    from basinet.sim.tasks.forms import is_data_set, is_list_of_samples
    from basinet.sim.tasks.landscapes.double_well import DoubleWell, double_well
    from basinet.sim.tasks.landscapes.landscape import Landscape
    from basinet.sim.tasks.landscapes.quadratic import Quadratic, quadratic
    from basinet.sim.tasks.landscapes.ripples import Ripples, ripples
    from basinet.sim.tasks.language.language_model import LanguageModel, language_model
    from basinet.sim.tasks.language.prompt_classification import PromptClassification, prompt_classification
    from basinet.sim.tasks.loaders.huggingface import huggingface
    from basinet.sim.tasks.loaders.image_folder import image_folder
    from basinet.sim.tasks.loaders.shards import shards
    from basinet.sim.tasks.loaders.table import table
    from basinet.sim.tasks.losses import SquaredError
    from basinet.sim.tasks.sequences.listops import ListOps, listops
    from basinet.sim.tasks.sequences.pathfinder import pathfinder
    from basinet.sim.tasks.sequences.pixel_sequence import pixel_sequence
    from basinet.sim.tasks.sequences.retrieval import retrieval
    from basinet.sim.tasks.sequences.text import text
    from basinet.sim.tasks.series.forecast import Forecast, forecast
    from basinet.sim.tasks.vision.digits import digits
    from basinet.sim.tasks.vision.ensemble.pretrained_ensemble import PretrainedEnsemble, pretrained_ensemble
    from basinet.sim.tasks.vision.procedures.video_language import VideoLanguage, video_language
    from basinet.sim.tasks.vision.quality.image_quality import ImageScoring, image_aesthetics, image_quality
    from basinet.sim.tasks.vision.quality.quality_pretraining import QualityPretraining, quality_pretraining
    from basinet.sim.tasks.vision.quality.scoring import Scoring
    from basinet.sim.tasks.vision.restoration.super_resolution import SuperResolution, super_resolution
    from basinet.sim.tasks.vision.videos.video_quality import VideoQuality, video_quality
    from basinet.sim.tasks.vision.videos.video_rating import VideoRating

__all__ = [
    "IGNORED",
    "TASKS",
    "Batch",
    "DoubleWell",
    "Forecast",
    "ImageScoring",
    "Landscape",
    "LanguageModel",
    "ListOps",
    "Logistic",
    "Noise",
    "OwnLoss",
    "Pad",
    "PretrainedEnsemble",
    "PromptClassification",
    "Quadratic",
    "QualityPretraining",
    "Regression",
    "Ripples",
    "Scoring",
    "SquaredError",
    "SuperResolution",
    "Task",
    "VideoLanguage",
    "VideoQuality",
    "VideoRating",
    "digits",
    "double_well",
    "forecast",
    "huggingface",
    "image_aesthetics",
    "image_folder",
    "image_quality",
    "is_data_set",
    "is_list_of_samples",
    "language_model",
    "listops",
    "logistic",
    "pathfinder",
    "pixel_sequence",
    "pretrained_ensemble",
    "prompt_classification",
    "quadratic",
    "quality_pretraining",
    "retrieval",
    "ripples",
    "shards",
    "super_resolution",
    "supervised",
    "table",
    "text",
    "video_language",
    "video_quality",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.sim.data.gradient_noise": ("Noise",),
        "basinet.sim.data.pad": ("Pad",),
        "basinet.sim.data.rows": ("IGNORED",),
        "basinet.sim.tasks.forms": (
            "is_data_set",
            "is_list_of_samples",
        ),
        "basinet.sim.tasks.landscapes.double_well": (
            "DoubleWell",
            "double_well",
        ),
        "basinet.sim.tasks.landscapes.landscape": ("Landscape",),
        "basinet.sim.tasks.landscapes.quadratic": (
            "Quadratic",
            "quadratic",
        ),
        "basinet.sim.tasks.landscapes.ripples": (
            "Ripples",
            "ripples",
        ),
        "basinet.sim.tasks.language.language_model": (
            "LanguageModel",
            "language_model",
        ),
        "basinet.sim.tasks.language.prompt_classification": (
            "PromptClassification",
            "prompt_classification",
        ),
        "basinet.sim.tasks.loaders.huggingface": ("huggingface",),
        "basinet.sim.tasks.loaders.image_folder": ("image_folder",),
        "basinet.sim.tasks.loaders.shards": ("shards",),
        "basinet.sim.tasks.loaders.table": ("table",),
        "basinet.sim.tasks.losses": ("SquaredError",),
        "basinet.sim.tasks.sequences.listops": (
            "ListOps",
            "listops",
        ),
        "basinet.sim.tasks.sequences.pathfinder": ("pathfinder",),
        "basinet.sim.tasks.sequences.pixel_sequence": ("pixel_sequence",),
        "basinet.sim.tasks.sequences.retrieval": ("retrieval",),
        "basinet.sim.tasks.sequences.text": ("text",),
        "basinet.sim.tasks.series.forecast": (
            "Forecast",
            "forecast",
        ),
        "basinet.sim.tasks.vision.digits": ("digits",),
        "basinet.sim.tasks.vision.ensemble.pretrained_ensemble": (
            "PretrainedEnsemble",
            "pretrained_ensemble",
        ),
        "basinet.sim.tasks.vision.procedures.video_language": (
            "VideoLanguage",
            "video_language",
        ),
        "basinet.sim.tasks.vision.quality.image_quality": (
            "ImageScoring",
            "image_aesthetics",
            "image_quality",
        ),
        "basinet.sim.tasks.vision.quality.quality_pretraining": (
            "QualityPretraining",
            "quality_pretraining",
        ),
        "basinet.sim.tasks.vision.quality.scoring": ("Scoring",),
        "basinet.sim.tasks.vision.restoration.super_resolution": (
            "SuperResolution",
            "super_resolution",
        ),
        "basinet.sim.tasks.vision.videos.video_quality": (
            "VideoQuality",
            "video_quality",
        ),
        "basinet.sim.tasks.vision.videos.video_rating": ("VideoRating",),
    },
)

TASKS.fill(__name__)
