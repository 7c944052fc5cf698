"""What is computed with rows: the numbers behind the events of asynchronous agents."""

from dataclasses import dataclass
from typing import ClassVar

from basinet.algorithms.strategies import Row

__all__ = ["Adapt", "Evaluation", "Gradient", "Mix", "Operation", "Step"]


@dataclass(eq=False, slots=True)
class Evaluation:
    """What an agent does with its next batch at a point.

    Attributes:
        result: The result.
        x: The point.
        batch: The number of the batch.
    """

    kind: ClassVar[int] = 0
    result: Row
    x: Row
    batch: int

    @property
    def reads(self) -> tuple[Row, ...]:
        """Rows that are read."""
        return (self.x,)


class Step(Evaluation):
    """An agent's optimizer step with the gradient of its next batch where it is: result ← adapt(x, g(x))."""

    __slots__ = ()


class Gradient(Evaluation):
    """The gradient of an agent's next batch, at a point where it is no more."""

    __slots__ = ()


@dataclass(eq=False, slots=True)
class Adapt:
    """An agent's optimizer step with a gradient of another point: result ← adapt(x, gradient)."""

    kind: ClassVar[int] = 1
    result: Row
    x: Row
    gradient: Row

    @property
    def reads(self) -> tuple[Row, ...]:
        """Rows that are read."""
        return (self.x, self.gradient)


@dataclass(eq=False, slots=True)
class Mix:
    """A combination: result ← own + Σ_l w_l (x_l − own)."""

    kind: ClassVar[int] = 2
    result: Row
    own: Row
    weights: tuple[float, ...]
    others: tuple[Row, ...]

    @property
    def reads(self) -> tuple[Row, ...]:
        """Rows that are read."""
        return (self.own, *self.others)


Operation = Step | Gradient | Adapt | Mix
