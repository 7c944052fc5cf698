"""Laws of gradient noise, light- and heavy-tailed, with moments in closed form."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from basinet.algorithms.draws import fold, normal, uniform
from basinet.sim.experiment.mistakes import shown

__all__ = ["Noise"]

_LARGEST = 1e38  # in float32

_AT_ONCE = 2**20
"""Approximate number of values of noise that are drawn at a time."""

Law = Literal["gaussian", "student", "pareto", "skewed_pareto", "stable"]
Shape = Literal["coordinates", "radial", "line"]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The zero-mean noise s of the gradient of one sample.

    A number X is drawn from a law, scaled so that E|X|^p = 1:

    - `gaussian`: X ~ N(0, 1);
    - `student`: Student's t with `tail` degrees of freedom;
    - `pareto`: |X| ≥ 1 with P(|X| > x) = x^−tail, both signs equally likely;
    - `skewed_pareto`: R − E R, R ≥ 1 with P(R > x) = x^−tail; its median is 2^(1/tail) − tail / (tail − 1), below 0;
    - `stable`: symmetric α-stable, with the characteristic function exp(−|t|^tail), tail < 2.

    The p-th moment is finite only for p below the tail index; near it, an empirical mean of |X|^p hardly converges.

    Attributes:
        law: The law of X.
        tail: Its tail index; None for a Gaussian.
        size: σ. By `shape`, (E|s_i|^p)^(1/p) of each coordinate, or (E‖s‖^p)^(1/p) of the vector.
        p: The order of the moment that σ measures.
        shape: `coordinates` (each with its own X), `radial` (|X| along a uniformly random direction), or `line` (X
            along the diagonal (1, …, 1)).
        multiplicative: δ; besides the additive noise, the loss of a sample, and so its gradient, is multiplied by
            1 + δX.

    Raises:
        ValueError: A setting is out of range, or the moment of order p is infinite.

    Example:
        >>> Noise(law="pareto", tail=3.0).raw_moment(2.0)
        3.0
    """

    law: Law = "gaussian"
    tail: float | None = None
    size: float = 1.0
    p: float = 2.0
    shape: Shape = "coordinates"
    multiplicative: float = 0.0

    def __post_init__(self) -> None:
        if self.law not in get_args(Law):
            raise ValueError(f"noise.law is {self.law!r}; allowed are {', '.join(get_args(Law))}")
        if self.shape not in get_args(Shape):
            raise ValueError(f"noise.shape is {self.shape!r}; allowed are {', '.join(get_args(Shape))}")
        if (self.tail is None) != (self.law == "gaussian"):
            raise ValueError(f"noise.tail is {self.tail}; a gaussian has none, and every other law needs one")
        for name in ("tail", "p", "size", "multiplicative"):
            value = getattr(self, name)
            if value is not None and not abs(value) <= _LARGEST:
                raise ValueError(
                    f"noise.{name} is {shown(value)}, where a finite number is needed, at most {_LARGEST:g}"
                )
        if self.law == "stable" and not 1 < self.index < 2:
            raise ValueError(f"noise.tail is {self.tail}; a stable law's is between 1 and 2 (at 2 it is gaussian)")
        if not self.index > 1:
            raise ValueError(f"noise.tail is {self.tail}; it has to be above 1, or the noise has no mean")
        if not 0 < self.p < self.index:
            raise ValueError(f"noise.p is {self.p}; it has to be below the tail index {self.index:g}, above 0")
        for name in ("size", "multiplicative"):
            if getattr(self, name) < 0:
                raise ValueError(f"noise.{name} is {getattr(self, name)}, but no value may be below 0")
        if self.law == "skewed_pareto" and self.shape == "radial":
            raise ValueError(
                "noise.shape is 'radial', which makes a skewed law symmetric; allowed are coordinates, line"
            )
        try:
            moment = self.raw_moment(self.p)
        except OverflowError:
            moment = math.inf
        if not 0 < moment < math.inf:
            raise ValueError(f"noise.p is {self.p}; E|X|^p of this {self.law} law is outside the floating-point range")

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> Self:
        """Read noise from the settings of a task.

        Args:
            settings: Attributes by name.

        Returns:
            The noise.

        Raises:
            ValueError: An attribute does not exist, or its value is not allowed.
        """
        names = [field.name for field in fields(cls)]
        for name, value in settings.items():
            if name not in names:
                raise ValueError(f"noise has no setting '{name}'; allowed are {', '.join(names)}")
            if name not in ("law", "shape") and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"noise.{name} is {shown(value)}, where a number is needed")
        return cls(**settings)

    @property
    def index(self) -> float:
        """The tail index, infinite for a Gaussian."""
        return math.inf if self.tail is None else self.tail

    def raw_moment(self, p: float) -> float:
        """Compute E|X|^p of the law before scaling.

        Args:
            p: The order, above 0.

        Returns:
            The moment; infinite if p is at least the tail index.
        """
        a = self.index
        if p >= a:
            return math.inf
        from scipy.special import beta, gamma, hyp2f1, poch  # slow to import, and most gradients are as they are

        if self.law == "gaussian":
            return float(2 ** (p / 2) * gamma((p + 1) / 2) / math.sqrt(math.pi))
        if self.law == "student":
            # poch(z, m) = Γ(z + m) / Γ(z); Γ alone would overflow for many degrees of freedom
            return float(a ** (p / 2) * gamma((p + 1) / 2) / (math.sqrt(math.pi) * poch((a - p) / 2, p / 2)))
        if self.law == "pareto":
            return a / (a - p)
        if self.law == "stable":
            return float(2**p * gamma((1 + p) / 2) * gamma(1 - p / a) / (math.sqrt(math.pi) * gamma(1 - p / 2)))
        # ∫ |r − m|^p a r^(−a−1) dr over r ≥ 1, above and below the mean m.
        mean = a / (a - 1)
        below = a ** (-p - 1) / (p + 1) * hyp2f1(p + 1, a + 1, p + 2, 1 / a)
        return float(a * mean ** (p - a) * (beta(a - p, p + 1) + below))

    @property
    def unit(self) -> float:
        """The scale factor of the law, (E|X|^p)^(−1/p)."""
        return float(self.raw_moment(self.p) ** (-1 / self.p))

    @property
    def median(self) -> float:
        """The median of X; its mean is zero."""
        if self.law != "skewed_pareto":
            return 0.0
        return self.unit * (2 ** (1 / self.index) - self.index / (self.index - 1))

    def variance(self, dimension: int) -> float:
        """Compute the variance of a coordinate of s / σ.

        Args:
            dimension: Number of coordinates M.

        Returns:
            The variance; infinite if the tail index is at most 2.
        """
        return self.unit**2 * self.raw_moment(2.0) / (1 if self.shape == "coordinates" else dimension)

    def numbers(self, keys: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Draw X.

        Args:
            keys: int64 [...].
            shape: Shape of the draw per key.

        Returns:
            float64 [*keys.shape, *shape].
        """
        return self.unit * self._raw(keys, shape)

    def _raw(self, keys: Tensor, shape: tuple[int, ...]) -> Tensor:
        a = self.index
        if self.law == "gaussian":
            return normal(keys, shape)
        u = 1 - uniform(fold(keys, 0), shape)  # in (0, 1]
        v = uniform(fold(keys, 1), shape)
        if self.law == "student":  # R. W. Bailey: Polar generation of random variates with the t-distribution (1994)
            return (a * torch.expm1(-2 / a * u.log())).sqrt() * (2 * math.pi * v).cos()
        if self.law == "stable":  # J. M. Chambers, C. L. Mallows, B. W. Stuck, JASA 71 (1976)
            angle = math.pi * (v - 0.5)
            tilted = ((1 - a) * angle).cos() / -u.log()
            return (a * angle).sin() / angle.cos().pow(1 / a) * tilted.pow((1 - a) / a)
        radius = u.pow(-1 / a)
        if self.law == "skewed_pareto":
            return radius - a / (a - 1)
        return torch.where(v < 0.5, -radius, radius)

    def vectors(self, keys: Tensor, count: int, dimension: int) -> Tensor:
        """Draw s / σ.

        Args:
            keys: int64 [...].
            count: Samples per key.
            dimension: Number of coordinates M.

        Returns:
            float64 [*keys.shape, count, M].
        """
        if self.shape == "coordinates":
            return self.numbers(keys, (count, dimension))
        along = self.numbers(keys, (count, 1))
        if self.shape == "line":
            return (along / math.sqrt(dimension)).expand(*along.shape[:-1], dimension)
        direction = normal(fold(keys, 2), (count, dimension))
        length: Tensor = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        return along * direction / length

    def disturb(self, gradients: Tensor, keys: Tensor) -> None:
        """Add noise to gradients in place, g ← (1 + ε) g + s, with one draw per row.

        Args:
            gradients: [N, M].
            keys: int64 [N].
        """
        rows = max(1, _AT_ONCE // gradients.shape[1])
        for some, own in zip(torch.split(gradients, rows), torch.split(keys, rows), strict=True):
            if self.multiplicative:
                some.mul_(1 + self.factors(own, 1)[:, 0])
            if self.size:
                some.add_(self.vectors(own, 1, gradients.shape[1])[:, 0], alpha=self.size)

    def factors(self, keys: Tensor, count: int) -> Tensor:
        """Draw ε = δX.

        Args:
            keys: int64 [...].
            count: Samples per key.

        Returns:
            float64 [*keys.shape, count, 1].
        """
        return self.multiplicative * self.numbers(fold(keys, 3), (count, 1))
