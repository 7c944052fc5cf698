"""Validation: training samples are held out and take the place of the test data, which nobody then looks at."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.data.rows import Stored, length, some

if TYPE_CHECKING:
    from basinet.sim.tasks.task import Task

__all__ = ["choose_held", "hold_rows_out"]

T = TypeVar("T", bound="Task")


def choose_held(task: "Task", share: float, seed: int) -> Tensor:
    """Choose training samples to hold out.

    They are whole groups of samples that belong together, if the task has such groups; otherwise, as many of each class
    as its share, and at random without classes.

    Args:
        task: The task.
        share: The share of the samples, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Whether each sample is held out, bool [n].

    Raises:
        ValueError: The samples have no order of their own, or the share is none of them, of a class or of the groups.
    """
    if isinstance(task.train, Stored) and task.train.window is not None:
        raise ValueError("the samples are a stream, of which none can be held out; allowed is a cache= that holds all")
    count, rng = length(task.train), np.random.default_rng(draws.key(seed, "validation"))
    groups = _groups(task)
    if groups is not None:
        held = _whole_groups(groups, share, rng)
    elif task.keeps_apart and any(name in task.columns for name in task.keeps_apart):
        held = np.arange(count) >= count - round(share * count)  # all are of one group: those at its end
    elif task.labels is not None:
        held = _stratified(task.labels.cpu().numpy(), share, rng)
    else:
        held = np.zeros(count, dtype=bool)
        held[rng.permutation(count)[: round(share * count)]] = True
    if not held.any() or held.all():
        raise ValueError(
            f"a share of {share:g} of the {count} training samples leaves {'none' if held.all() else 'all'} of them to"
            " train on; allowed are shares that leave some for both"
        )
    return torch.from_numpy(held)


def hold_rows_out(task: T, held: Tensor, left: Tensor | None = None, **changes: Any) -> T:
    """Return a task whose test data are some of its training samples.

    Args:
        task: The task.
        held: Whether each training sample is held out, bool [n].
        left: Whether each remains for training, bool [n]; by default, all others do.
        **changes: Other attributes that change along.

    Returns:
        The task.
    """
    kept = (~held if left is None else left).nonzero()[:, 0]
    return replace(
        task,
        train=some(task.train, kept),
        test=some(task.train, held.nonzero()[:, 0]),
        columns={name: column[kept.numpy()] for name, column in task.columns.items()},
        is_validation=True,
        **changes,
    )


def _groups(task: "Task") -> NDArray[Any] | None:
    """Return the group of each sample by the first column that tells several apart."""
    for name in task.keeps_apart:
        if name in task.columns:
            values, group = np.unique(task.columns[name], return_inverse=True)
            if len(values) > 1:
                return group
    return None


def _whole_groups(group: NDArray[Any], share: float, rng: np.random.Generator) -> NDArray[Any]:
    """Hold out groups in a random order, as many as come closest to the share: at least one, and not all."""
    order = rng.permutation(group.max() + 1)
    sizes = np.cumsum(np.bincount(group)[order])[:-1]
    count = 1 + int(np.abs(sizes - share * len(group)).argmin())
    return np.isin(group, order[:count])


def _stratified(labels: NDArray[Any], share: float, rng: np.random.Generator) -> NDArray[Any]:
    """Hold out the same share of each class; a class of a single sample stays."""
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = min(math.floor(share * len(members) + 0.5), len(members) - 1)
        if not count and len(members) > 1:
            raise ValueError(
                f"a share of {share:g} is none of the {len(members)} training samples of class {label}; allowed are"
                f" shares from {0.5 / len(members):.2g} on"
            )
        held[members[:count]] = True
    return held
