"""Tasks: the data, the loss and the metrics of an experiment."""

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
from basinet.sim.tasks.logistic import Logistic, logistic
from basinet.sim.tasks.losses import SquaredError
from basinet.sim.tasks.sequences.listops import ListOps, listops
from basinet.sim.tasks.sequences.pathfinder import pathfinder
from basinet.sim.tasks.sequences.pixel_sequence import pixel_sequence
from basinet.sim.tasks.sequences.retrieval import retrieval
from basinet.sim.tasks.sequences.text import text
from basinet.sim.tasks.series.forecast import Forecast, forecast
from basinet.sim.tasks.supervised import OwnLoss, Regression, supervised
from basinet.sim.tasks.task import TASKS, Batch, Task
from basinet.sim.tasks.vision.digits import digits
from basinet.sim.tasks.vision.ensemble.pretrained_ensemble import PretrainedEnsemble, pretrained_ensemble
from basinet.sim.tasks.vision.restoration.super_resolution import SuperResolution, super_resolution
from basinet.sim.tasks.vision.videos.video_quality import VideoQuality, video_quality
from basinet.sim.tasks.vision.videos.video_rating import VideoRating

__all__ = [
    "IGNORED",
    "TASKS",
    "Batch",
    "DoubleWell",
    "Forecast",
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
    "Regression",
    "Ripples",
    "SquaredError",
    "SuperResolution",
    "Task",
    "VideoQuality",
    "VideoRating",
    "digits",
    "double_well",
    "forecast",
    "huggingface",
    "image_folder",
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
    "retrieval",
    "ripples",
    "shards",
    "super_resolution",
    "supervised",
    "table",
    "text",
    "video_quality",
]

TASKS.fill(__name__)
