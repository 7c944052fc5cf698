"""Tasks: data and a loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.sim.data.held_out import choose_held, hold_rows_out
from basinet.sim.data.nests import Nest, leaves, map_nest, move_nest
from basinet.sim.data.rows import IGNORED, Data, Stored, at_once, length, some, spread, take
from basinet.sim.evaluation.baselines import constant_baselines
from basinet.sim.evaluation.measuring import evaluate
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.run.quantity import Where
from basinet.sim.tasks.calls import called, targets_of
from basinet.sim.tasks.kept import Kept
from basinet.sim.tasks.model_outputs import check_losses, check_rows, class_scores, fit, output_of
from basinet.sim.tasks.task_checks import check_task
from basinet.topologies.registry import Registry

MeanOver = Literal["samples", "batch"]

_ADDED = ("vocabulary", "padding", "metrics", "metrics_on", "evaluated_samples", "is_validation")
"""Attributes that tasks did not always have; what their defaults say leaves the digest of a task as it was."""

Batch = Nest
"""A nest of tensors that share their first dimension, such as (inputs, targets)."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data and a loss, for a single model.

    A model maps the inputs of a batch to outputs, as `outputs` says. The loss is a mean over the elements of
    `loss(outputs, batch)`, each with its weight; labels of −100 in a classification have none. The mean is 0 if nothing
    counts. Or the loss is that of a whole batch, and then no mean: see `mean_over`.

    Attributes:
        train: Training data: a nest of tensors [n, ...] that share their first dimension, such as (inputs, targets), or
            samples that are read when they are needed.
        test: Test data of the same form, or None.
        num_outputs: Number of outputs of a model for one sample (classes, or coordinates).
        vocabulary: Number of different tokens, if inputs are sequences of tokens, int64 [n, T]; None for numbers.
        padding: The token that fills up short sequences; None if there is none.
        model: Name of the default model.
        classification: Whether targets are class indices.
        target: The field of a batch that holds the targets; None for the last part of a tuple, or the field with a
            usual name (targets, target, labels, label or y).
        mean_over: "samples" if `loss` returns the loss of each sample, or of each of its elements; "batch" if it
            returns that of the whole batch, a scalar, which batches of other sizes do not add up to.
        measured_batch: For a loss of whole batches: samples in each of the fixed batches over whose losses evaluation
            and analysis take the mean. A run takes its batch size for None; outside, all samples are one batch.
        evaluated_samples: Size of the fixed random subset of the training samples that evaluations measure; None for
            all.
        columns: What else is known of each training sample, by name, such as its user: arrays [n] of numbers or words,
            by which the samples may be partitioned.
        metrics: What is measured besides the loss, the main metric first; None for the accuracy of a classification.
        metrics_on: On which data, "test" and "train".
        is_validation: Whether the test data are training samples that were held out; see `hold_out`.
    """

    train: Data
    test: Data | None = None
    num_outputs: int
    vocabulary: int | None = None
    padding: int | None = None
    model: str = "mlp"
    classification: bool = True
    target: str | None = None
    mean_over: MeanOver = "samples"
    measured_batch: int | None = None
    evaluated_samples: int | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metrics: tuple[Any, ...] | None = None
    metrics_on: tuple[Where, ...] = ("test",)
    is_validation: bool = False

    runs_user_code: ClassVar[bool] = False
    """Whether a class of Basinet calls functions of the user's."""

    keeps_apart: ClassVar[tuple[str, ...]] = ()
    """Columns whose values are groups of samples that belong together: `hold_out` takes those of the first one that
    there is."""

    same_loss: ClassVar[bool] = True
    """Whether test data have the loss of training data, so that their difference is a generalization gap."""

    loss_words: ClassVar[str] = "cross-entropy, since the targets are classes"
    """The loss that the class defines, in words, for the record of a run."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without those derived from the data, and without what digests knew nothing of."""
        usual = {field.name: field.default for field in fields(self) if field.name in _ADDED}
        left_out = {
            "evaluated",
            "ignores",
            "outputs_per_sample",
            "sizes",
            *(name for name, value in usual.items() if getattr(self, name) == value),
        }
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def targets(self, batch: Batch) -> Any:
        """Return the targets of a batch.

        Args:
            batch: A batch.

        Returns:
            The part of the batch that holds them; None if there is none.
        """
        return targets_of(batch, self.target)

    def with_targets(self, batch: Batch, targets: Tensor) -> Batch:
        """Return a batch with other targets.

        Args:
            batch: A batch whose targets are a tensor.
            targets: The others.

        Returns:
            A batch that shares everything else with it.
        """
        old = self.targets(batch)
        return map_nest(lambda part: targets if part is old else part, batch)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input sample; of the first input, if there are several."""
        return tuple(leaves(take(self.train, slice(0, 1)))[0].shape[1:])

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of all inputs of a sample, in their order."""
        batch = take(self.train, slice(0, 1))
        targets = self.targets(batch)
        return tuple(tuple(part.shape[1:]) for part in leaves(batch) if part is not targets)

    @cached_property
    def outputs_per_sample(self) -> int:
        """Number of outputs that a model computes for one sample, by which evaluation bounds the memory.

        By default one per class for each target of a classification, and `num_outputs` otherwise.
        """
        targets = self.targets(take(self.train, slice(0, 1))) if self.classification else None
        return self.num_outputs * (targets.numel() if isinstance(targets, Tensor) else 1)

    @property
    def model_arguments(self) -> dict[str, Any]:
        """What the makers of models may ask for, by the names of their parameters."""
        names = ("input_shape", "input_shapes", "num_outputs", "vocabulary", "padding")
        return {name: getattr(self, name) for name in names}

    @property
    def kept(self) -> dict[str, Kept]:
        """What a run keeps of what was made of the data, by the setting that says how; by default nothing."""
        return {}

    @property
    def labels(self) -> Tensor | None:
        """Class of each training sample, int64 [n], or None if samples do not have exactly one class."""
        if not self.classification:
            return None
        targets = self.train.labels if isinstance(self.train, Stored) else self.targets(self.train)
        return targets.flatten() if isinstance(targets, Tensor) and targets.numel() == len(targets) else None

    @cached_property
    def ignores(self) -> bool:
        """Whether some labels are −100, or may be, as in samples that are generated or read when needed."""
        if not self.classification:
            return False
        data = self.measured().values()
        stored = [part for part in data if isinstance(part, Stored)]
        if self.draw is not None or any(part.labels is None or part.relabels for part in stored):
            return True
        targets = [part.labels if isinstance(part, Stored) else self.targets(part) for part in data]
        return any(isinstance(t, Tensor) and t.dtype.is_signed and bool((t == IGNORED).any()) for t in targets)

    @cached_property
    def sizes(self) -> dict[int, float]:
        """What samples that are read when needed count in all, by the identity of the data."""
        return {}

    def weights(self, batch: Batch) -> Tensor | None:
        """Return how much each element of the loss counts, by default 0 for labels of −100 and 1 for others.

        Args:
            batch: A batch.

        Returns:
            Numbers of at least 0, or bool, of the shape of the loss or of its first dimensions, [B, ...]; None if all
            count alike. Whether it is None must not depend on the batch.
        """
        return self.targets(batch) != IGNORED if self.ignores else None

    def counted(self, batch: Batch) -> Tensor | None:
        """Return how much each element of the loss counts: `weights`, and nothing where a label is −100.

        Args:
            batch: A batch.

        Returns:
            As for `weights`.
        """
        weights = self.weights(batch)
        if not self.has_weights:
            return weights
        check_rows(weights, batch)
        if not self.ignores:
            return weights
        labelled: Tensor = self.targets(batch) != IGNORED
        if weights is None:
            return labelled
        if weights.ndim < labelled.ndim:
            weights = spread(weights, labelled.shape, "labels")
        return weights * labelled

    @property
    def least_batch(self) -> int:
        """Smallest number of samples that a batch needs: 1 unless the loss compares the samples of a batch."""
        return 1

    @property
    def has_weights(self) -> bool:
        """Whether elements of the loss have other weights than 0 for labels of −100 and 1 for others."""
        return self.overrides("weights")

    @property
    def weighs(self) -> bool:
        """Whether elements of the loss have weights."""
        return self.ignores or self.has_weights

    def counts(self, data: Data) -> Tensor | None:
        """Sum the weights of each sample.

        Args:
            data: Samples.

        Returns:
            [n], int64 if the weights are bool; None if all elements count alike.
        """
        if isinstance(data, Stored):
            rows = torch.split(torch.arange(len(data) if self.weighs else 0), at_once(data))
            found = [self.counts(take(data, some)) for some in rows if len(some)]
            return torch.cat([counts for counts in found if counts is not None]) if found else None
        weights = self.counted(data)
        return None if weights is None else weights.reshape(len(weights), -1).sum(1)

    @property
    def loss_name(self) -> str:
        """The loss in messages."""
        return f"{type(self).__name__}.loss"

    @property
    def about_loss(self) -> str:
        """The loss, what its mean is over, and what is not evaluated, in words."""
        count, total = self.evaluated_samples, length(self.train)
        about = self._about_loss
        if self.is_validation:
            about += f"; tested on {count_of(length(self.test), 'training sample')} held out for validation"
        if count is None or count >= total:
            return about
        return f"{about}; evaluated on {count:,} of the {total:,} training samples"

    @property
    def _about_loss(self) -> str:
        owner = next(kind for kind in type(self).__mro__ if {"loss", "objective", "loss_words"} & vars(kind).keys())
        words: str = vars(owner).get("loss_words", f"that of {owner.__name__}")
        if self.mean_over == "batch":
            size = self.measured_batch
            where = "" if size is None else f", and measured on fixed batches of {count_of(size, 'sample')}"
            return f"{words}; of a whole batch, which is no mean over samples{where}"
        if isinstance(self.train, Stored) or (weights := self.counted(self.train)) is None:
            return words
        if weights.dtype != torch.bool:
            return f"{words}; a weighted mean over {weights.numel()} elements"
        return f"{words}; {int((~weights).sum())} of {weights.numel()} labels do not count"

    def check(self) -> None:
        """Raise ValueError unless the data are tensors of equal length, and the targets of a classification classes."""
        check_task(self)

    def overrides(self, method: str) -> bool:
        """Return whether a class derived from `Task` has a method of its own, by the method's name."""
        return getattr(type(self), method) is not getattr(Task, method)

    def measured(self) -> dict[str, Data]:
        """Return the data that `evaluate` measures.

        Returns:
            `train`, and `test` if it exists and the task does not measure in its own way.
        """
        if self.test is None or self.overrides("evaluate"):
            return {"train": self.train}
        return {"train": self.train, "test": self.test}

    @cached_property
    def evaluated(self) -> Data:
        """The training samples that evaluations measure."""
        count, total = self.evaluated_samples, length(self.train)
        if count is None or count >= total:
            return self.train
        order = draws.permutation(torch.tensor([draws.key(0, "evaluated samples")]), torch.tensor([total]), total)[0]
        return some(self.train, order[:count].sort().values)

    def hold_out(self, share: float, seed: int) -> Self:
        """Hold training samples out, which take the place of the test data.

        Args:
            share: The share of the samples, in (0, 1).
            seed: Seed of the choice.

        Returns:
            The task; if it generates its samples, itself without test data, since its training loss is no fit to some.

        Raises:
            ValueError: That is not possible.
        """
        if self.draw is not None:
            return replace(self, test=None)
        if self.overrides("evaluate"):
            raise ValueError(f"{type(self).__name__} measures models in its own way, and knows no validation")
        return hold_rows_out(self, choose_held(self, share, seed))

    @property
    def draw(self) -> Callable[[Tensor, Tensor, int, torch.dtype], Batch] | None:
        """A function that generates fresh samples, or None if samples are drawn from `train`.

        The function takes keys (int64 [N]; see `basinet.algorithms.draws`), the agent of each key (int64
        [N]), the batch size B and a floating type, and returns a batch of tensors [N, B, ...].
        """
        return None

    def outputs(self, model: Callable[..., Any], batch: Batch) -> Any:
        """Apply a model to a batch: by default to its parts by position or name, without the targets.

        Args:
            model: The model.
            batch: A tensor, which the model takes; a tuple or list, whose parts but the last it takes by position; or a
                mapping or dataclass, of which it takes the fields that its forward names.

        Returns:
            What the model returns: a tensor, or any nest.
        """
        if type(batch) is tuple and len(batch) == 2:  # the usual case
            return model(batch[0])
        return called(model, batch, self.target)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the loss of each sample, by default the cross-entropy.

        Args:
            outputs: Outputs of the model, [B, ..., num_outputs], or a nest with a field `logits`.
            batch: The batch; its targets are class indices, [B, ...].

        Returns:
            Tensor [B, ...], not reduced; or a scalar, if the mean is over a batch.
        """
        targets = self.targets(batch)
        scores = class_scores(output_of(outputs), targets, self.num_outputs).flatten(0, -2)
        return nn.functional.cross_entropy(scores, targets.flatten(), reduction="none").view_as(targets)

    def mean_loss(self, outputs: Any, batch: Batch, groups: tuple[int, ...] = ()) -> Tensor:
        """Compute the mean loss over the elements that count.

        Args:
            outputs: Outputs of the model for the batch.
            batch: A batch.
            groups: (G,) for the mean of each of G consecutive groups of B / G samples.

        Returns:
            A scalar tensor, or [G].

        Raises:
            ValueError: If the loss is not one floating-point number per sample, for example because outputs and targets
                were broadcast.
        """
        weights = self.counted(batch)
        if self.ignores and weights is not None:
            targets = self.targets(batch)
            batch = self.with_targets(batch, targets.masked_fill(targets == IGNORED, 0))
        losses = self.loss(outputs, batch)
        if not (isinstance(losses, Tensor) and losses.is_floating_point()):
            kind = f"tensor of {losses.dtype}" if isinstance(losses, Tensor) else type(losses).__name__
            raise ValueError(f"{self.loss_name} returns a {kind}; allowed is a tensor of floating-point numbers")
        if self.mean_over == "batch":
            if losses.ndim or groups:
                raise ValueError(
                    f"{self.loss_name} is declared to be that of a whole batch (mean_over), "
                    + ("which samples do not have" if groups else f"but returns the shape {tuple(losses.shape)}")
                )
            return losses
        check_losses(losses, outputs, self.targets(batch), batch)
        if weights is None:
            return losses.reshape(*groups, -1).mean(-1)
        if weights.shape != losses.shape:
            if not self.has_weights:
                losses = fit(losses, weights.shape, f"some labels are {IGNORED}, and loss returns losses")
            else:
                weights = spread(weights, losses.shape, "losses")
        if weights.dtype == torch.bool:
            total = losses.where(weights, 0).reshape(*groups, -1).sum(-1)
            return total / weights.reshape(*groups, -1).sum(-1).clamp(min=1)
        weights = weights.to(losses.dtype)
        total = (losses.where(weights > 0, 0) * weights).reshape(*groups, -1).sum(-1)
        counted = weights.reshape(*groups, -1).sum(-1)
        return total / counted.where(counted > 0, 1)

    def objective(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            model: The model.
            batch: A batch.

        Returns:
            A scalar tensor.
        """
        return self.mean_loss(self.outputs(model, batch), batch)

    def predict(self, outputs: Any) -> Tensor:
        """Choose a class for each sample, by default that of the largest output.

        Args:
            outputs: Outputs of the model, [B, ..., num_outputs].

        Returns:
            Class indices, int64 [B, ...].
        """
        return output_of(outputs).argmax(-1)

    def evaluate(self, model: nn.Module, *, chunk: int = 4096) -> dict[str, float]:
        """Measure a model in its current mode (training or evaluation).

        Args:
            model: A model on the device of the data.
            chunk: Samples that pass through the model at a time, which bounds the memory; it only affects the result by
                rounding, unless the model mixes samples (batch normalisation in training mode).

        Returns:
            `train_loss`, and if defined `test_loss`, `generalization_gap` (test loss minus training loss, if both are
            of the same loss) and the metrics, such as `test_accuracy`.
        """
        return evaluate(self, model, chunk=chunk)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what `evaluate` returns for trivial predictions, by name; see `constant_baselines`."""
        return constant_baselines(self)

    def constant_outputs(self, frequencies: Tensor) -> Tensor:
        """Choose the constant outputs that say nothing but how frequent each class is.

        Args:
            frequencies: Of the classes in the training data, [C].

        Returns:
            Outputs for one sample, [num_outputs]; those of the smallest loss.
        """
        return frequencies.log()

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move all tensors of the task to a device, and floating-point ones to a type.

        Args:
            device: The target device.
            dtype: Type of floating-point tensors, and of the parts of complex ones; integers keep theirs.

        Returns:
            A task on that device.
        """
        moved = {field.name: _move(getattr(self, field.name), device, dtype) for field in fields(self)}
        return replace(self, **moved)


TASKS: Registry[Task] = Registry("TASKS")
"""The tasks that an experiment can name."""


def _move(value: Any, device: torch.device | str, dtype: torch.dtype) -> Any:
    return value.to(device, dtype) if isinstance(value, Stored) else move_nest(value, device, dtype)
