"""Requirements on every task."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from basinet.sim.data.nests import Nest, fields_of, leaves
from basinet.sim.data.rows import IGNORED, Stored, length
from basinet.sim.evaluation.measuring import size
from basinet.sim.experiment.mistakes import count_of

if TYPE_CHECKING:
    from basinet.sim.tasks.task import Task

__all__ = ["check_task", "check_weights"]


def check_task(task: "Task") -> None:
    """Check the data of a task.

    Args:
        task: The task.

    Raises:
        ValueError: If the data are not tensors of equal length, the targets of a classification are not class indices,
            or a weight is negative or not finite.
    """
    for name, data in task.measured().items():
        if isinstance(data, Stored):
            if len(data) == 0:
                raise ValueError(f"{name} is empty")
            data.check()
            continue
        found = leaves(data)
        if not found or not all(t.ndim for t in found) or not _all_tensors(data):
            raise ValueError(f"{name} has to be a nest of tensors, such as (inputs, targets); `supervised` makes such")
        if len({len(t) for t in found}) > 1 or len(found[0]) == 0:
            raise ValueError(f"{name} has {' and '.join(str(len(t)) for t in found)} entries, not as many each")
        if any(t.layout != torch.strided or t.is_quantized or t.is_meta for t in found):
            raise ValueError(f"{name} holds sparse, quantized or meta tensors; allowed are dense ones")
    for name, data in task.measured().items():
        if length(data) < task.least_batch and (name == "train" or task.same_loss):
            raise ValueError(
                f"{name} has {count_of(length(data), 'sample')}, and the loss compares the samples of a batch; allowed"
                f" are at least {task.least_batch}"
            )
    for name, column in task.columns.items():
        if np.shape(column) != (length(task.train),):
            raise ValueError(
                f"the column {name!r} has the shape {np.shape(column)}, and train has {length(task.train)} samples"
            )
    for name, data in task.measured().items():
        if isinstance(data, Stored):
            if task.classification and data.labels is not None:
                _check_labels(task, name, data.labels)
            continue
        if task.vocabulary is not None:
            _check_tokens(name, leaves(data)[0], task.vocabulary)
        if task.classification and not task.overrides("predict"):
            _check_labels(task, name, task.targets(data))
        check_weights(name, task.counted(data))
        if size(task, data) == 0:
            own = task.has_weights and not task.ignores
            raise ValueError(f"all weights of {name} are 0" if own else f"no label of {name} counts: all are {IGNORED}")
    if task.ignores and task.draw is None and task.overrides("objective"):
        raise ValueError(
            f"labels of {IGNORED} are left out of the mean over a `loss`, and {type(task).__name__} has an"
            " `objective` of its own"
        )


def check_weights(name: str, weights: Tensor | None, rows: Tensor | None = None) -> None:
    """Check how much the elements of a loss count.

    Args:
        name: What the data are, for error messages.
        weights: The weights of some samples, [B, ...]; None if all count alike.
        rows: Indices of the samples; None for 0, 1, …

    Raises:
        ValueError: One is negative or not finite.
    """
    if weights is None or weights.dtype == torch.bool:
        return
    wrong = ~((weights >= 0) & weights.isfinite())
    if wrong.any():
        place = int(wrong.nonzero()[0, 0])
        raise ValueError(
            "weights have to be finite numbers of at least 0, and that of sample"
            f" {place if rows is None else rows[place]} of {name} is {weights[wrong][0].item():g}"
        )


def _check_labels(task: "Task", name: str, targets: Tensor) -> None:
    if targets.dtype != torch.int64:
        raise ValueError(
            f"the targets of {name} are of type {str(targets.dtype).removeprefix('torch.')}, and those of a"
            " classification are class indices of type int64; give these, or classification=False, or a `predict`"
        )
    counted = targets[targets != IGNORED]
    low, high = (int(counted.min()), int(counted.max())) if len(counted) else (0, 0)
    if low < 0 or high >= task.num_outputs:
        raise ValueError(
            f"the targets of {name} run from {low} to {high}; allowed are the classes 0 to"
            f" {task.num_outputs - 1}, and {IGNORED} for what has none"
        )


def _check_tokens(name: str, tokens: Tensor, vocabulary: int) -> None:
    if tokens.dtype != torch.int64 or tokens.min() < 0 or tokens.max() >= vocabulary:
        raise ValueError(
            f"the inputs of {name} have the type {str(tokens.dtype).removeprefix('torch.')} and run from"
            f" {tokens.min().item():g} to {tokens.max().item():g}; allowed are tokens of type int64 from 0 to"
            f" {vocabulary - 1}"
        )


def _all_tensors(nest: Nest) -> bool:
    """Return whether a nest holds tensors only."""
    return isinstance(nest, Tensor) or (bool(parts := fields_of(nest)) and all(map(_all_tensors, parts.values())))
