"""Means over samples, or over their elements: accuracies, likelihoods and mean errors."""

import math
from abc import abstractmethod
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from basinet.analysis.metrics.seen import labels, numbers, require_classes, require_labels, scores_of
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.measuring import size, weights_of
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import Task
from basinet.sim.tasks.language.tokens import Tokens
from basinet.sim.tasks.model_outputs import class_scores, fit, output_of

__all__ = ["Accuracy", "SampleMean"]


class _Mean(Metric):
    """The mean over batches of their means, weighted by what counts in them."""

    def reset(self) -> None:
        """Forget all batches."""
        self._parts: list[tuple[Tensor, Tensor | float]] = []

    def compute(self) -> float:
        """Compute the mean.

        Returns:
            The mean of the batches' means, weighted by their sizes, as of the loss; NaN if nothing counts.
        """
        sizes = [float(part) for _, part in self._parts]
        whole = sum(sizes)
        means = [float(mean) for mean, _ in self._parts]
        return sum(part / whole * mean for part, mean in zip(sizes, means, strict=True)) if whole else math.nan


class SampleMean(_Mean):
    """The mean of a value of each sample, or of each of its elements, weighted like the loss."""

    @abstractmethod
    def values(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        """Compute the value of each sample.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: The task.

        Returns:
            Tensor [B, ...].
        """

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take a batch into account.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: The task.
        """
        values = self.values(outputs, batch, task).double()
        weights = weights_of(task, batch, values.shape)
        if weights is None:
            self._parts.append((values.mean(), values.numel()))
            return
        weights = weights.double()
        total = weights.sum()
        # Values without a weight need not be numbers.
        weighted = (values.where(weights > 0, 0) * weights).sum() / total.where(total > 0, 1)
        self._parts.append((weighted, total))


class Accuracy(SampleMean):
    """The fraction of correctly predicted classes."""

    unit, direction = "fraction correct", "larger"

    def values(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        """Compare predictions with targets.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A classification.

        Returns:
            Whether each is right, bool [B, ...].
        """
        require_classes(self, task)
        targets: Tensor = task.targets(batch)
        return fit(task.predict(outputs), targets.shape, "predict returns classes") == targets


class TopK(SampleMean):
    """The fraction of targets that are among the k classes of the largest outputs.

    Args:
        k: Number of classes, at most all of them.
    """

    name, unit, direction = "topk", "fraction correct", "larger"

    def __init__(self, k: Annotated[int, Field(ge=1)] = 5) -> None:
        self.k = k
        self.name = f"top{k}_accuracy"
        self.label = f"top-{k} accuracy"

    def values(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        """Look for the targets among the largest outputs.

        Args:
            outputs: What the model returned, with one output per class.
            batch: The batch.
            task: A classification.

        Returns:
            Whether each is among them, bool [B, ...].

        Raises:
            ValueError: If there are fewer classes.
        """
        require_classes(self, task)
        targets = task.targets(batch)
        scores = class_scores(output_of(outputs), targets, task.num_outputs)
        if self.k > task.num_outputs:
            raise ValueError(f"topk.k: got {self.k}; allowed are at most {task.num_outputs}, the outputs of the task")
        among: Tensor = (scores.topk(self.k, dim=-1).indices == targets[..., None]).any(-1)
        return among


class NLL(SampleMean):
    """The mean negative log-likelihood (cross-entropy) of the targets under the softmax of the outputs."""

    label, heading, unit, direction = "negative log-likelihood", "NLL", "nats", "smaller"

    def values(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        """Compute −log p of each target.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A classification.

        Returns:
            Tensor [B, ...].
        """
        scores, targets, _ = scores_of(self, outputs, batch, task)
        found = nn.functional.cross_entropy(scores, targets, reduction="none")
        return found.view_as(task.targets(batch))


class _OfTheLoss(_Mean):
    """A function of the mean loss of a classification."""

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take the mean loss of a batch into account.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A classification.
        """
        require_classes(self, task)
        self._parts.append((task.mean_loss(outputs, batch), size(task, batch)))


class Perplexity(_OfTheLoss):
    """The perplexity exp(J), J the mean loss, which has to be a negative log-likelihood (cross-entropy)."""

    direction, exponential = "smaller", True

    def compute(self) -> float:
        """Compute the exponential of the mean loss.

        Returns:
            The perplexity; infinity if it is too large for a float.
        """
        loss = super().compute()
        return math.exp(loss) if loss < 700 else loss * math.inf


class BitsPerElement(_OfTheLoss):
    """The bits per element J / ln 2, J the mean loss, which has to be a negative log-likelihood (cross-entropy)."""

    unit, direction = "bits", "smaller"

    def compute(self) -> float:
        """Convert the mean loss to bits.

        Returns:
            The mean loss to the base 2.
        """
        return super().compute() / math.log(2)


class BitsPerByte(_OfTheLoss):
    """The bits per byte J t / (b ln 2) of a language model, J the mean loss, for t tokens that stand for b bytes."""

    unit, direction = "bits", "smaller"

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self._bytes: list[tuple[Tensor, Tensor | int]] = []

    def update(self, outputs: Any, batch: Nest, task: Task) -> None:
        """Take a batch into account.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A language model.

        Raises:
            ValueError: If the task does not say how many bytes a token stands for.
        """
        tokens = getattr(task, "tokens", None)
        if not isinstance(tokens, Tokens):
            raise ValueError(f"{self.name} needs tokens that stand for bytes, as those of language_model do")
        super().update(outputs, batch, task)
        targets = task.targets(batch)
        lengths = tokens.bytes_in(targets.clamp(min=0))
        counted = task.counted(batch)
        if counted is None:
            self._bytes.append((lengths.sum(), targets.numel()))
        else:
            self._bytes.append(((lengths * counted).sum(), counted.sum()))

    def compute(self) -> float:
        """Convert the mean loss to bits per byte.

        Returns:
            The bits; NaN if there are no bytes.
        """
        lengths, counts = (sum(map(float, part)) for part in zip(*self._bytes, strict=True))
        return super().compute() / math.log(2) * counts / lengths if lengths else math.nan


class _OfErrors(SampleMean):
    """A mean of a function of the errors of a regression."""

    direction = "smaller"

    def values(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        """Compute the function of the error of each number.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A regression.

        Returns:
            Tensor [B, ...].
        """
        predicted, targets, _ = numbers(self, outputs, batch, task)
        return self._of(predicted - targets).view(task.targets(batch).shape)

    @abstractmethod
    def _of(self, errors: Tensor) -> Tensor:
        """Compute the function of errors."""


class MSE(_OfErrors):
    """The mean squared error."""

    label = "mean squared error"

    def _of(self, errors: Tensor) -> Tensor:
        return errors.square()


class RMSE(MSE):
    """The root of the mean squared error."""

    label = "root mean squared error"

    def compute(self) -> float:
        """Compute the root.

        Returns:
            The square root of the mean.
        """
        return math.sqrt(super().compute())


class MAE(_OfErrors):
    """The mean absolute error."""

    label = "mean absolute error"

    def _of(self, errors: Tensor) -> Tensor:
        return errors.abs()


class _OfLabels(SampleMean):
    """A mean over samples with several labels, each predicted as 1 if its output is positive."""

    def compute(self) -> float:
        """Compute the mean.

        Returns:
            The mean over the samples.
        """
        found = super().compute()
        require_labels(self, found)
        return found

    def right(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        """Compare predictions with labels.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A task with several labels for a sample.

        Returns:
            1 where they agree, 0 where they do not, NaN where the target is no label; [B, ..., L].
        """
        predicted, targets, _ = labels(self, outputs, batch, task)
        right = ((predicted > 0) == (targets > 0)).double().masked_fill(targets.isnan(), math.nan)
        return right.view(task.targets(batch).shape)


class ExactMatch(_OfLabels):
    """The fraction of samples all of whose labels are predicted (1 if the output is positive)."""

    unit, direction = "fraction correct", "larger"

    def values(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        """Compare all labels of each sample.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A task with several labels for a sample.

        Returns:
            Tensor [B, ...].
        """
        return self.right(outputs, batch, task).amin(-1)  # NaN if one is


class Hamming(_OfLabels):
    """The Hamming loss: the fraction of wrong labels (predicted as 1 if the output is positive)."""

    label, unit, direction = "Hamming loss", "fraction wrong", "smaller"

    def values(self, outputs: Any, batch: Nest, task: Task) -> Tensor:
        """Mark the wrong labels.

        Args:
            outputs: What the model returned.
            batch: The batch.
            task: A task with several labels for a sample.

        Returns:
            Tensor [B, ..., L].
        """
        return 1 - self.right(outputs, batch, task)
