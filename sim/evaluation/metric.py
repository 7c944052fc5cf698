"""The base class of metrics."""

import copy
import inspect
import re
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from torch import Tensor

from basinet.sim.data.nests import Nest
from basinet.sim.experiment.plugged import plugged
from basinet.sim.run.quantity import Direction, Quantity, Where

if TYPE_CHECKING:
    from basinet.sim.tasks.task import Task

__all__ = ["Metric", "as_metric", "is_metric", "snake_case"]


def snake_case(name: str) -> str:
    """Write the name of a class in lower case, with underscores between its words.

    Args:
        name: The name, such as "MeanSquaredError".

    Returns:
        Such as "mean_squared_error".
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Metric(ABC):
    """A number that says how good a model is, accumulated over the batches of some data.

    The parameters of `__init__` are its settings; what it accumulates begins with `reset`. Every evaluation has a copy
    of its own.

    Attributes:
        name: Its name; its values in a run are called test_NAME and train_NAME. By default the class name in snake
            case.
        label: Its name on an axis; by default the name in words.
        heading: Its short name in tables; by default the label.
        unit: Its unit.
        direction: Which values are better, "smaller" or "larger"; None if neither.
        about: A one-line description; by default the first line of the class's docstring.
        exponential: Whether it is the exponential of a mean, which is drawn on a logarithmic axis.
    """

    name: str
    label: str = ""
    heading: str = ""
    unit: str = ""
    direction: Direction | None = None
    about: str = ""
    exponential: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        cls.name = own.get("name") or snake_case(cls.__name__)
        cls.about = own.get("about") or inspect.cleandoc(cls.__doc__ or "").partition("\n")[0].rstrip(".")

    @abstractmethod
    def reset(self) -> None:
        """Forget all batches."""

    @abstractmethod
    def update(self, outputs: Any, batch: Nest, task: "Task") -> None:
        """Take a batch into account.

        Args:
            outputs: What the model returned for the batch.
            batch: The batch; `task.targets(batch)` are its targets, and `task.counted(batch)` says what counts.
            task: The task.
        """

    @abstractmethod
    def compute(self) -> float | Tensor:
        """Compute the value over all batches since the last `reset`.

        Returns:
            One number; NaN if it is undefined.
        """

    def fresh(self) -> Self:
        """Copy the metric, without the batches that it has seen.

        Returns:
            The copy.
        """
        twin = copy.deepcopy(self)
        twin.reset()
        return twin

    def value(self) -> float:
        """Return the value as a plain number.

        Returns:
            What `compute` returns.

        Raises:
            ValueError: If that is not one real number.
        """
        found = self.compute()
        if isinstance(found, Tensor) and not found.is_complex():
            found = found.detach().cpu().double()  # numpy knows no bfloat16
        numbers = np.asarray(found)
        if numbers.dtype.kind not in "iuf" or numbers.size != 1:
            kind = type(found).__name__ + (f" of shape {numbers.shape}" if numbers.shape else "")
            raise ValueError(f"{self.name} returns a {kind}; allowed is one number")
        return float(numbers.reshape(()))

    def quantity(self, where: Where | None = None) -> Quantity:
        """Describe the value.

        Args:
            where: On which data; None for any.

        Returns:
            The quantity.
        """
        label = self.label or self.name.replace("_", " ")
        linear = self.direction == "larger"  # a score, of at most 1
        known = Quantity(
            label,
            self.heading or label,
            self.unit,
            self.direction,
            self.about,
            linear=linear,
            exponential=self.exponential,
        )
        if where is None:
            return known
        word = {"train": "training", "test": "test"}[where]
        about = f"{self.about}, on the {word} data"
        return replace(known, label=f"{word} {label}", heading=f"{where} {known.heading}", about=about)


def is_metric(given: Any) -> bool:
    """Return whether an object is a metric: it has the methods `reset`, `update` and `compute`.

    Args:
        given: Any object.

    Returns:
        Whether it has.
    """
    return not isinstance(given, type) and all(hasattr(given, name) for name in ("reset", "update", "compute"))


def as_metric(given: Any) -> Metric:
    """Return a metric as it is, and adapt an object that has the interface of torchmetrics.

    Args:
        given: The object.

    Returns:
        The metric.
    """
    return given if isinstance(given, Metric) else plugged("torch metric")(given)
