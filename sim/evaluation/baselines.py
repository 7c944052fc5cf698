"""Trivial baselines: constant predictions made from the training targets."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from basinet.sim.data.nests import Nest
from basinet.sim.data.rows import Stored
from basinet.sim.evaluation.measuring import chunks, measure, weights_of

if TYPE_CHECKING:
    from basinet.sim.tasks.task import Task

__all__ = ["constant_baselines"]

_log = logging.getLogger(__name__)

_CHUNK = 4096
"""Samples that are measured at a time."""


def constant_baselines(task: "Task") -> dict[str, dict[str, float]]:
    """Measure the constant prediction of a task.

    For a classification it is the logarithm of the class frequencies in the training data, or what the task takes
    instead (`Task.constant_outputs`), so that the most frequent class is predicted; otherwise, the mean of the training
    targets.

    Args:
        task: The task.

    Returns:
        Losses and metrics by name, under "majority class" or "mean target". Nothing for a task without targets, with an
        objective or an evaluation of its own, or whose loss or metrics do not take such outputs.
    """
    if task.draw is not None or task.overrides("objective") or task.overrides("evaluate"):
        return {}
    try:
        outputs = _majority(task) if task.classification else _mean(task)
        found: dict[str, float] = {}
        with torch.no_grad():
            for where in ("train", "test"):
                if outputs is not None and getattr(task, where) is not None:
                    found |= measure(task, where, outputs, chunk=_CHUNK)
    except Exception as error:  # the user's loss may raise anything for outputs that are not its model's
        _log.info("no baseline: %s", error)
        return {}
    return {"majority class" if task.classification else "mean target": found} if found else {}


def _majority(task: "Task") -> Callable[[Nest], Any] | None:
    """Return a model that knows the class frequencies only."""
    counts = torch.zeros(max(2, task.num_outputs), dtype=torch.float64)  # of two classes, there may be one output
    if isinstance(task.train, Stored) and task.train.labels is not None and not task.weighs:
        counts += torch.bincount(task.train.labels, minlength=len(counts))
    else:
        for part, _ in chunks(task, task.train, _CHUNK):
            targets = task.targets(part)
            if not isinstance(targets, Tensor):
                return None
            weights = weights_of(task, part, targets.shape)
            weights = torch.ones_like(targets) if weights is None else weights
            counts.index_add_(0, targets.clamp(min=0).flatten(), weights.double().flatten())
    constant = task.constant_outputs(counts / counts.sum())
    return lambda batch: constant.expand(*task.targets(batch).shape, -1)


def _mean(task: "Task") -> Callable[[Nest], Any] | None:
    """Return a model that knows the mean target only."""
    total: Any = 0.0
    for part, share in chunks(task, task.train, _CHUNK):
        targets, counts = task.targets(part), task.counts(part)
        if not isinstance(targets, Tensor) or not targets.is_floating_point():
            return None
        rows = torch.ones(len(targets), dtype=torch.float64) if counts is None else counts.double()
        rows = rows.reshape(-1, *(1 for _ in targets.shape[1:]))
        total = total + share * (rows * targets).sum(0) / rows.sum(0).clamp(min=torch.finfo(torch.float64).tiny)
        dtype = targets.dtype
    mean = total.to(dtype)
    return lambda batch: mean.expand(task.targets(batch).shape)
