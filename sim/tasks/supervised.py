"""Tasks from the user's own data: torch data sets, tensors or arrays, with a usual loss or one of the user's."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from basinet.sim.data.items import Items, Transform, check_classes
from basinet.sim.data.nests import Nest, fields_of, leaves
from basinet.sim.data.pad import Pad
from basinet.sim.data.rows import Data, Stored, at_once, length, take
from basinet.sim.tasks.calls import TARGETS, targets_of
from basinet.sim.tasks.forms import Form, check_alike, read
from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.tasks.task import Batch, MeanOver, Task

__all__ = ["OwnLoss", "Regression", "supervised"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Regression with the mean squared error over the outputs as the loss of a sample."""

    classification: bool = False

    loss_words: ClassVar[str] = "squared error, without an accuracy, since the targets are numbers and not classes"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the squared error of each sample, averaged over its outputs.

        Args:
            outputs: Outputs of the model, [B, ..., num_outputs], or any shape if targets are [B, num_outputs].
            batch: Its targets are numbers of the same shape.

        Returns:
            Tensor [B, ...], not reduced.
        """
        return _squared_error(outputs, self.targets(batch))


def _squared_error(outputs: Any, targets: Tensor) -> Tensor:
    outputs = output_of(outputs)
    if outputs.ndim > 1 and targets.ndim == 2:
        outputs = outputs.flatten(1)
    outputs = fit(outputs, targets.shape, "the model returns outputs")
    errors = nn.functional.mse_loss(outputs, targets, reduction="none")
    return errors.mean(-1) if errors.ndim > 1 else errors


@dataclass(frozen=True, kw_only=True)
class OwnLoss(Task):
    """A task whose loss, and possibly weights, are functions.

    Attributes:
        loss_function: Computes the loss from the outputs and the batch; "model" takes the field `loss` of the outputs;
            None stands for the cross-entropy of classes and the squared error of numbers.
        weights_function: Computes the weights of a batch; None for those of `Task`.
    """

    loss_function: Callable[[Any, Batch], Tensor] | Literal["model"] | None = None
    weights_function: Callable[[Batch], Tensor] | None = None

    runs_user_code: ClassVar[bool] = True

    loss_words: ClassVar[str] = "a function of yours, or weighted by one"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Call the function; see `Task.loss`.

        Args:
            outputs: Outputs of the model.
            batch: The batch.

        Returns:
            What the function returns.

        Raises:
            ValueError: The model is to return its loss but does not.
        """
        if self.loss_function is None:
            return super().loss(outputs, batch) if self.classification else _squared_error(outputs, self.targets(batch))
        if self.loss_function != "model":
            return self.loss_function(outputs, batch)
        loss = fields_of(outputs).get("loss")
        if not isinstance(loss, Tensor):
            raise ValueError(f"the model returns a {type(outputs).__name__} without a loss, which `loss` asks it for")
        return loss

    def weights(self, batch: Batch) -> Tensor | None:
        """Call the function for the weights, if there is one; see `Task.weights`.

        Args:
            batch: The batch.

        Returns:
            The weights.
        """
        return super().weights(batch) if self.weights_function is None else self.weights_function(batch)

    @property
    def loss_name(self) -> str:
        """The loss in messages."""
        return "the loss"

    @property
    def has_weights(self) -> bool:
        """Whether there is a function for the weights."""
        return self.weights_function is not None


def supervised(
    train: Any,
    test: Any = None,
    *,
    classification: bool | None = None,
    model: str = "mlp",
    loss: Callable[[Any, Batch], Tensor] | Literal["model"] | None = None,
    weights: Callable[[Batch], Tensor] | None = None,
    mean_over: MeanOver = "samples",
    num_outputs: int | None = None,
    target: str | None = None,
    labels: Sequence[int] | Tensor | None = None,
    columns: Mapping[str, Sequence[Any] | NDArray[Any]] | None = None,
    lazy: bool | Literal["auto"] = "auto",
    collate: Callable[[list[Any]], Nest] | None = None,
    transform: Transform | None = None,
    cache: str | os.PathLike[str] | None = None,
    window: int | None = None,
) -> Task:
    """Turn data into a task.

    Data are a Dataset or a list, whose items are tuples, mappings or dataclasses; or a nest of tensors or arrays that
    share their first dimension: (inputs, targets), a longer tuple, a mapping or a dataclass. Tensors are not copied,
    and never written to.

    Args:
        train: Training data.
        test: Test data of the same form, or None.
        classification: Whether targets are class indices, with the cross-entropy as the loss; otherwise, it is the
            squared error. By default, integer targets are class indices. A label of −100 does not count. With a loss
            of your own, whether to measure the accuracy.
        model: Name of the default model.
        loss: A loss of your own: takes the outputs of the model and the batch, and returns the loss of each sample or
            element, or of the batch, if `mean_over` says so. "model" takes the field `loss` of the model's outputs, as
            those of Hugging Face have it.
        weights: Takes a batch, and returns how much each sample, or element of the loss, counts in the mean.
        mean_over: See `Task`.
        num_outputs: Number of outputs for one sample; by default one per class, or per number in a target.
        target: The part of a batch that holds the targets; see `Task`.
        labels: Class of each training sample, if the items of a data set are read when needed; that of each item is
            compared with it. By default, its attribute `targets`; without it, all items are read once to learn their
            classes, unless `num_outputs` is given.
        columns: What else is known of each training sample, by which it may be partitioned; see `Task`.
        lazy: Whether items are read when they are needed, instead of all at the start; "auto" if they would take more
            than a quarter of the memory.
        collate: Makes a batch of a list of items, whose first dimension has to be theirs, by default as a DataLoader
            does; `basinet.sim.tasks.Pad` pads items of different lengths.
        transform: Changes an item at random whenever an agent draws it; takes the item and a numpy.random.Generator,
            which is seeded by agent, step and position. Measured samples are not changed.
        cache: A folder in which the items of a data set are kept in files that are mapped into memory, as they are
            before a transform and a collation: they are read once, for all runs that use the same ones.
        window: For data that can only be iterated over, such as an IterableDataset: agents draw from this many samples
            at a time, in the order of the data. These must be the same whenever they are iterated over, and are dealt
            out in turns (`partition: in_turns`).

    Returns:
        A task.

    Raises:
        ValueError: If the data have no such form, items differ in shape, or test data differ in form from the training
            data; if the targets of a classification are not class indices, or not those of `labels`; or if a weight is
            negative.

    Example:
        >>> import torch
        >>> task = supervised((torch.zeros(3, 5), torch.tensor([0, 2, 1])))
        >>> task.input_shape, task.num_outputs
        ((5,), 3)
    """
    if isinstance(loss, str) and loss != "model":
        raise ValueError(
            f"loss is {loss!r}; allowed are a function of outputs and batch, and 'model' for the model's own"
        )
    if mean_over not in get_args(MeanOver):
        raise ValueError(f"mean_over is {mean_over!r}; allowed are {' and '.join(get_args(MeanOver))}")
    if weights is not None and (mean_over == "batch" or loss == "model"):
        raise ValueError("weights are for a mean over samples, and the loss is that of a whole batch")
    data = {"train": read("train", train, lazy=lazy, collate=collate, transform=transform, cache=cache, window=window)}
    if test is not None:
        data["test"] = read("test", test, lazy=lazy, collate=collate, cache=cache, window=window)
    few = {name: take(part, slice(0, 1)) for name, part in data.items()}
    if test is not None:
        check_alike(few["train"], few["test"])
    targets = targets_of(few["train"], target)
    if loss is None:
        _check_targets(few["train"], targets)
        classification = not targets.is_floating_point() if classification is None else classification
    if isinstance(collate, Pad) and loss in (None, "model") and isinstance(targets, Tensor):
        collate.check_targets(few["train"], targets)
    form = Form("classes" if classification else "numbers" if loss is None else "any", target, "train")
    known: Tensor | None = None
    if isinstance(data["train"], Stored):
        labels = getattr(train, "targets", None) if labels is None else labels
        known = _known(labels, data["train"]) if classification else None
        if known is not None:
            basis = known
        elif classification and num_outputs is None:
            known, basis = _read_classes(data["train"], form)
        else:
            basis = targets_of(form(few["train"]), target)
    else:
        basis = targets_of(form(data["train"]), target)
    num_outputs = _count_outputs(basis, classification=bool(classification)) if num_outputs is None else num_outputs
    for name, part in data.items():
        own = replace(form, name=name)
        if isinstance(part, Items):
            own = replace(own, num_outputs=num_outputs, weights=weights)
            classes = known if name == "train" else None
            data[name] = replace(part, convert=own, classes=classes, targets=partial(targets_of, name=target))
        elif not isinstance(part, Stored):
            data[name] = own(part)
            given = _known(labels, part) if classification and name == "train" else None
            if given is not None:
                check_classes(name, targets_of(data[name], target), given, torch.arange(length(part)))
    settings: dict[str, Any] = {
        "train": data["train"],
        "test": data.get("test"),
        "num_outputs": num_outputs,
        "model": model,
        "classification": bool(classification),
        "target": target,
        "mean_over": "batch" if loss == "model" else mean_over,
        "columns": {name: np.asarray(column) for name, column in (columns or {}).items()},
    }
    if loss is not None or weights is not None:
        task: Task = OwnLoss(loss_function=loss, weights_function=weights, **settings)
    else:
        task = (Task if classification else Regression)(**settings)
    task.check()
    return task


def _known(labels: Any, data: Data) -> Tensor | None:
    """Return the labels of samples that are given apart from them, if there are any."""
    if labels is None:
        return None
    found = torch.as_tensor(labels).long()
    if found.shape[:1] != (length(data),):
        raise ValueError(
            f"labels, or the attribute targets of the data set, has the shape {tuple(found.shape)}, and train has"
            f" {length(data)} samples"
        )
    return found.flatten() if found.numel() == len(found) else found


def _check_targets(batch: Nest, targets: Any) -> None:
    """Raise if there are no targets for a usual loss."""
    whole = any(targets is part for part in (batch, *fields_of(batch).values())) and len(leaves(batch)) > 1
    if not isinstance(targets, Tensor) or not whole:
        parts = ", ".join(fields_of(batch)) if isinstance(batch, Mapping) else f"{len(leaves(batch))} entries"
        raise ValueError(
            f"train holds {'a single array' if isinstance(batch, Tensor) else parts}, where inputs and targets are"
            f" wanted; allowed are (inputs, targets), a field for the targets ({', '.join(TARGETS)}, or the one that"
            " target= names), and a loss of your own"
        )
    if targets.is_complex():
        raise ValueError("the targets of train are complex numbers, which no loss here takes")


def _count_outputs(targets: Any, *, classification: bool) -> int:
    """Count the classes, or the numbers in a target; 1 if there are no targets."""
    if not isinstance(targets, Tensor):
        return 1
    if classification or not targets.is_floating_point():
        return 1 + max(0, int(targets.max()))
    return targets[:1].numel()


def _read_classes(data: Data, form: Form) -> tuple[Tensor | None, Tensor]:
    """Read all samples once; return the class of each, if they have one, and the classes that there are."""
    _log.warning(
        "task: all %d items of train are read once to learn their classes; labels= or num_outputs= makes that needless",
        length(data),
    )
    found = []
    for rows in torch.split(torch.arange(length(data)), at_once(data)):
        targets = targets_of(form(data.fetch(rows), rows), form.target)
        found.append(targets if targets.ndim == 1 else targets.unique())
    classes = torch.cat(found)
    return (classes if len(classes) == length(data) and targets.ndim == 1 else None), classes
