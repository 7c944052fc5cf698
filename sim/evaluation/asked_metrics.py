"""The metrics that an experiment asks for."""

import copy
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from basinet.sim.evaluation.measuring import metrics_of, places_of
from basinet.sim.evaluation.metric import Metric, as_metric, is_metric
from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.digest import plain
from basinet.sim.experiment.mistakes import user_code
from basinet.sim.run.quantity import QUANTITIES

if TYPE_CHECKING:
    from basinet.sim.experiment.config import Config
    from basinet.sim.tasks.task import Task

__all__ = ["with_metrics"]


def with_metrics(task: "Task", config: "Config") -> "Task":
    """Give a task the metrics that a run asks for.

    Args:
        task: The task.
        config: The run.

    Returns:
        The task with these metrics; as it is if the run asks for none.

    Raises:
        ExperimentError: Something asked for is no metric, two metrics have the same name, or there are no data.
    """
    if config.metrics_on is not None:
        task = replace(task, metrics_on=config.metrics_on)
    if config.metrics is not None:
        task = replace(task, metrics=_made(config.metrics))
    names = [metric.name for metric in metrics_of(task)]
    for name in names:
        if not re.fullmatch(r"\w+", name):
            raise ExperimentError(f"metrics: got a metric called {name!r}; allowed in names are letters, digits and _")
        if names.count(name) > 1:
            raise ExperimentError(f"metrics: {name} is given twice, with the same settings; give it once")
        if f"test_{name}" in QUANTITIES:
            raise ExperimentError(f"metrics: got a metric called {name}, which every run measures; rename it")
    asked = config.metrics or config.metrics_on
    if asked and names and set(places_of(task)) < set(task.metrics_on) and not task.overrides("evaluate"):
        raise ExperimentError(
            f"metrics_on: {names[0]} is to be measured on test data, and the task has none; allowed is [train]"
        )
    return task


def _made(components: Sequence[Component]) -> tuple[Metric, ...]:
    """Make metrics; those of the same name are distinguished by the settings in which they differ."""
    metrics = []
    for component in components:
        made = component.make()
        if not is_metric(made):
            raise ExperimentError(
                f"metrics: {component.name} makes a {type(made).__name__}; allowed are metrics, which have the methods"
                " reset, update and compute"
            )
        with user_code(component):
            metrics.append(copy.copy(as_metric(made)))
    names = [metric.name for metric in metrics]
    for metric, name, component in zip(metrics, names, components, strict=True):
        alike = [other for own, other in zip(names, components, strict=True) if own == name]
        differing = {
            key: value
            for key, value in component.chosen.items()
            if len({str(other.chosen.get(key)) for other in alike}) > 1
        }
        for key, value in differing.items():
            text = str(plain(value))
            metric.label = f"{metric.label or metric.name.replace('_', ' ')}, {key}={text}"
            metric.heading = metric.heading and f"{metric.heading}, {key}={text}"
            metric.name = "_".join([metric.name, key, *re.findall(r"\w+", text)])
    return tuple(metrics)
