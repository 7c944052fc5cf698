"""Metrics of the outputs of a model, one file per family."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

from basinet.analysis.metrics.fidelities import PsnrRgb, PsnrY, SsimY
from basinet.analysis.metrics.masked_units import DetailR2
from basinet.analysis.metrics.opinion_scores import KROCC, PLCC, SROCC, FittedPLCC, OpinionScore
from basinet.analysis.metrics.phase_scores import PhaseAccuracy, PhaseF1
from basinet.analysis.metrics.sample_means import MAE, MSE, Accuracy, BitsPerByte, Perplexity, SampleMean
from basinet.analysis.metrics.torch_metric import TorchMetric
from basinet.analysis.metrics.video_scores import ChallengeScore, RankNonsource, RankSource
from basinet.sim import tasks
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task

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


def _of_rated_videos(task: Any) -> tuple[Metric, ...]:
    scores: tuple[OpinionScore, ...] = ChallengeScore(), SROCC(), PLCC(), RankNonsource(), RankSource()
    return tuple(score for score in scores if all(len(task.pairs.get(kind, ())) for kind in score.of_pairs))


def _of_phases(task: Any) -> tuple[Metric, ...]:
    return tuple(kind(of) for of in dict.fromkeys(task.sets) for kind in (PhaseAccuracy, PhaseF1))


_USUAL: dict[str, Callable[[Any], tuple[Metric, ...]]] = {
    "Forecast": lambda _: (MSE(), MAE()),
    "LanguageModel": lambda _: (Perplexity(), BitsPerByte()),
    "QualityPretraining": lambda _: (DetailR2(),),
    "Scoring": lambda _: (SROCC(), PLCC(), KROCC(), FittedPLCC()),
    "SuperResolution": lambda _: (PsnrY(), SsimY(), PsnrRgb()),
    "VideoLanguage": lambda task: tuple(
        kind(of) for of in dict.fromkeys(task.sets) for kind in (PhaseAccuracy, PhaseF1)
    ),
    "VideoRating": _of_rated_videos,
}
"""Metrics of tasks that name none, by the class of the task, by its name: most runs import one of these classes."""


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
    for kind in type(task).__mro__:
        if kind.__module__.startswith(f"{tasks.__name__}.") and kind.__name__ in _USUAL:
            return _USUAL[kind.__name__](task)
    return (Accuracy(),) if task.classification else ()
