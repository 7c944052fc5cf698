"""What is computed with rows: the numbers behind the events of asynchronous agents."""

from dataclasses import dataclass
from typing import ClassVar

from basinet.algorithms.strategies import Row

__all__ = ["Adapt", "Gradient", "Mix", "Operation"]


@dataclass(frozen=True, eq=False, slots=True)
class Gradient:
    """The gradient of an agent's next batch, at the point where it started.

    Attributes:
        result: The gradient.
        point: The point.
        step: The number of the batch.
    """

    kind: ClassVar[int] = 0
    result: Row
    point: Row
    step: int

    @property
    def reads(self) -> tuple[Row, ...]:
        """Rows that are read."""
        return (self.point,)


@dataclass(frozen=True, eq=False, slots=True)
class Adapt:
    """An agent's optimizer step: result ← adapt(x, gradient)."""

    kind: ClassVar[int] = 1
    result: Row
    x: Row
    gradient: Row

    @property
    def reads(self) -> tuple[Row, ...]:
        """Rows that are read."""
        return (self.x, self.gradient)


@dataclass(frozen=True, eq=False, slots=True)
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


Operation = Gradient | Adapt | Mix
