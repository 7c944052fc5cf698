"""Handwritten digits of 8 × 8 pixels, included in scikit-learn."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from basinet.algorithms.draws import fold, integers, key, permutation
from basinet.sim.tasks.losses import CLASS_LOSSES, ClassLoss
from basinet.sim.tasks.task import TASKS, Task

_TRAIN_SIZE = 1437


@TASKS.register()
def digits(
    *,
    train_size: Annotated[int, Field(ge=1, le=_TRAIN_SIZE)] | None = None,
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0,
    loss: ClassLoss = "cross_entropy",
    seed: int = 0,
) -> Task:
    """Load the 1,797 digits of scikit-learn (Alpaydin and Kaynak, 1998, doi:10.24432/C50P49).

    Inputs are [n, 1, 8, 8], scaled from 0 … 16 to [0, 1] and not centred. The split is fixed, whatever the
    seed: 1,437 training and 360 test samples, stratified by class. A smaller training set is stratified, too,
    and a subset of each larger one; the samples left over are added to the test set.

    Args:
        train_size: Training samples, at most 1,437 (the default).
        label_noise: Fraction of the training labels that are replaced by another class, uniformly at random.
            The test labels stay clean.
        loss: The cross-entropy, or half the squared distance of the outputs from the class's unit vector.
        seed: Seed of the label noise; the simulator supplies it.

    Returns:
        A task of ten classes.

    Raises:
        ValueError: If `train_size` is outside 1 … 1,437.

    Example:
        >>> task = digits()
        >>> task.input_shape, len(task.train[0]), len(task.test[0])
        ((1, 8, 8), 1437, 360)
    """
    size = _TRAIN_SIZE if train_size is None else train_size
    if not 1 <= size <= _TRAIN_SIZE:
        raise ValueError(f"digits: train_size is {size}; it has to be between 1 and {_TRAIN_SIZE}")
    inputs, labels = (samples.clone() for samples in _samples())
    return CLASS_LOSSES[loss](
        train=(inputs[:size], _corrupt(labels[:size], label_noise, seed)),
        test=(inputs[size:], labels[size:]),
        num_outputs=10,
    )


@cache
def _samples() -> tuple[Tensor, Tensor]:
    """Load inputs and labels in order, once per process."""
    package = find_spec("sklearn")  # located, since importing it would take as long as torch
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the digits are part of scikit-learn, which is not installed")
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    pixels, classes = table[:, :-1], table[:, -1].astype(np.int64)
    order = _stratified_order(classes)
    inputs = torch.from_numpy(pixels[order] / 16).float().view(-1, 1, 8, 8)
    return inputs, torch.from_numpy(classes[order])


def _stratified_order(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a random order of the samples in which every prefix is stratified by class."""
    count = len(classes)
    shuffled = permutation(torch.tensor([key(0, "digits")]), torch.tensor([count]), count)[0].numpy()
    place = np.empty(count)
    for label in np.unique(classes):
        members = shuffled[classes[shuffled] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    order: NDArray[np.int64] = shuffled[np.argsort(place[shuffled], kind="stable")]
    return order


def _corrupt(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Return labels of which a fraction has been replaced by one of the nine other classes."""
    root = torch.tensor([key(seed, "label noise")])
    count = len(labels)
    chosen = permutation(fold(root, 0), torch.tensor([count]), count)[0, : round(fraction * count)]
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + 1 + integers(fold(root, 1), 9, (len(chosen),))[0]) % 10
    return noisy
