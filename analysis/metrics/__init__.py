"""Metrics of the outputs of a model, one file per family."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

from basinet.analysis.metrics.fidelities import PsnrRgb, PsnrY, SsimY
from basinet.analysis.metrics.masked_units import DetailR2
from basinet.analysis.metrics.opinion_scores import KROCC, PLCC, SROCC, FittedPLCC, OpinionScore
from basinet.analysis.metrics.phase_scores import PhaseAccuracy, PhaseF1
from basinet.analysis.metrics.sample_means import MAE, MSE, Accuracy, BitsPerByte, Perplexity, SampleMean
from basinet.analysis.metrics.torch_metric import TorchMetric
from basinet.analysis.metrics.video_scores import ChallengeScore, RankNonsource, RankSource
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import (
    Forecast,
    LanguageModel,
    QualityPretraining,
    Scoring,
    SuperResolution,
    Task,
    VideoLanguage,
    VideoRating,
)

__all__ = ["METRICS", "Metric", "SampleMean", "TorchMetric", "default_metrics"]


def _found() -> Iterator[type[Metric]]:
    """Import the modules of this folder, and yield the metrics in them."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            is_own = isinstance(thing, type) and thing.__module__ == module.name and name[0] != "_"
            if is_own and issubclass(thing, Metric) and not inspect.isabstract(thing) and thing is not TorchMetric:
                yield thing


METRICS: dict[str, type[Metric]] = dict(sorted((metric.name, metric) for metric in _found()))
"""Metrics by their names in an experiment."""


def default_metrics(task: Task) -> tuple[Metric, ...]:
    """Choose the metrics of a task that names none.

    Args:
        task: The task.

    Returns:
        Perplexity and bits per byte of a language model, the mean squared and absolute errors of forecasts, the
        fidelities of super-resolution, the R² of the details of masked units, the numbers of the challenge on video
        quality as far as pairs are known, the correlations of other mean opinion scores, the recognition of
        phases by videos and language, the accuracy of another classification; none of another task.
    """
    if isinstance(task, LanguageModel):
        return Perplexity(), BitsPerByte()
    if isinstance(task, Forecast):
        return MSE(), MAE()
    if isinstance(task, VideoRating):
        scores: tuple[OpinionScore, ...] = ChallengeScore(), SROCC(), PLCC(), RankNonsource(), RankSource()
        return tuple(score for score in scores if all(len(task.pairs.get(kind, ())) for kind in score.of_pairs))
    if isinstance(task, Scoring):
        return SROCC(), PLCC(), KROCC(), FittedPLCC()
    if isinstance(task, SuperResolution):
        return PsnrY(), SsimY(), PsnrRgb()
    if isinstance(task, QualityPretraining):
        return (DetailR2(),)
    if isinstance(task, VideoLanguage):
        return tuple(kind(of) for of in dict.fromkeys(task.sets) for kind in (PhaseAccuracy, PhaseF1))
    return (Accuracy(),) if task.classification else ()
