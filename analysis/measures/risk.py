"""Excess risk: the loss at a point above the minimum of its basin."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from basinet.analysis.curvature.hessian import HessianOperator, Loss
from basinet.analysis.curvature.quadrature import quadratic_form
from basinet.analysis.measures.measure import Count, PointMeasure, Positive
from basinet.analysis.measures.measured import Points
from basinet.sim.run.records import Row

__all__ = ["BasinDescent", "ExcessRisk", "NewtonDecrement", "descend", "excess_risk", "newton_decrement"]

Array = NDArray[np.float64]

_MEMORY = 20
"""History size of the L-BFGS direction: pairs of steps and gradient changes."""


@dataclass(frozen=True)
class ExcessRisk:
    """The excess risk of a point, and how well the minimum is known.

    Attributes:
        value: Excess risk, `loss` − `minimum`; never negative.
        loss: Loss at the point.
        minimum: Loss where the descent ended.
        gradient_norm: Gradient norm where the descent ended.
        converged: Whether that norm is within the tolerance.
        num_products: Number of Hessian products used by the descent, one per step.
        point: Parameters where the descent ended, flat [P].
    """

    value: float
    loss: float
    minimum: float
    gradient_norm: float
    converged: bool
    num_products: int
    point: Array = field(repr=False, compare=False)


def excess_risk(
    model: nn.Module,
    loss: Loss,
    data: tuple[Tensor, ...],
    *,
    gradient_tolerance: float = 1e-5,
    max_products: int = 300,
    chunk: int | None = None,
) -> ExcessRisk:
    r"""Measure the excess risk of a model's parameters θ, also called the optimization error.

    $$
    \mathrm{ER}(θ) = J(θ) - J(θ^*), \qquad θ^* = \text{the end of a deterministic descent from } θ .
    $$

    The descent follows the L-BFGS direction p for the length t that minimises the quadratic model of the loss along it,
    inside a trust region of radius r:

    $$
    m(t) = J(θ) + t ⟨∇J, p⟩ + \tfrac{1}{2} t² pᵀ H p, \qquad ‖t p‖ ≤ r .
    $$

    It costs one Hessian product per step, and on a quadratic it is the conjugate gradient method. A step whose decrease
    differs from the prediction of m by more than a half is cut to a quarter, even if the decrease is larger: m then
    does not describe the path, which may cross a barrier. The first radius is that of the model's minimum along the
    gradient, and it doubles while m predicts well. The loss thus falls at each step, and the descent stays in the basin
    of θ unless the barrier around it is small compared with the slope towards it.

    The descent ends when ‖∇J‖ ≤ `gradient_tolerance` (an absolute norm), when a step would change the loss by less than
    rounding, or after `max_products` steps. Near a minimum with least positive curvature μ the loss is then above J(θ*)
    by about ‖∇J‖² / 2μ. Cross-entropy on separable data has its minimum, 0, at infinity; the descent moves towards it
    until the gradient is small enough. In a ReLU network it may stop at a kink.

    Args:
        model: A model, as for `HessianOperator`; it is not changed.
        loss: Maps the model and a batch to the mean loss of the batch.
        data: Tensors [n, ...] that share their first dimension.
        gradient_tolerance: Gradient norm at which the descent has converged.
        max_products: Maximum number of Hessian products; a step costs about three gradients.
        chunk: Maximum number of samples differentiated at once; None for all.

    Returns:
        The excess risk, with the end of the descent.

    Example:
        On the points (0, 1) and (1, 1), the line 2 x has mean squared error 1, the best line x has 1 / 2.

        >>> model = nn.Linear(1, 1, bias=False).double()
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> x, y = torch.tensor([[[0.0], [1.0]], [[1.0], [1.0]]], dtype=torch.float64)
        >>> risk = excess_risk(model, lambda model, batch: ((model(batch[0]) - batch[1]) ** 2).mean(), (x, y))
        >>> round(risk.value, 9), round(risk.minimum, 9), risk.converged
        (0.5, 0.5, True)

    References:
        Liu, Nocedal: On the limited memory BFGS method for large scale optimization, Mathematical
        Programming 45, 1989, doi:10.1007/BF01589116. Conn, Gould, Toint: Trust-region methods, SIAM, 2000,
        doi:10.1137/1.9780898719857.
    """
    here = HessianOperator(model, loss, data, chunk=chunk)
    return descend(here, gradient_tolerance=gradient_tolerance, max_products=max_products)


def descend(here: HessianOperator, *, gradient_tolerance: float = 1e-5, max_products: int = 300) -> ExcessRisk:
    """Descend from the point of a Hessian into its basin; see `excess_risk`.

    Args:
        here: The Hessian at the point, which also provides loss and gradient.
        gradient_tolerance: Gradient norm at which the descent has converged.
        max_products: Maximum number of Hessian products.

    Returns:
        The excess risk, with the end of the descent.

    Raises:
        ValueError: If the loss or its gradient is not finite at the point.
    """
    # Relative changes of the loss below this are rounding.
    rounding = 4 * torch.finfo(here.curvature.points.dtype).eps
    start = value = here.loss()
    gradient = here.gradient()
    if not (math.isfinite(value) and np.isfinite(gradient).all()):
        raise ValueError(f"The loss ({value}) and its gradient must be finite for the descent to start.")
    position = here.point
    pairs: deque[tuple[Array, Array]] = deque(maxlen=_MEMORY)
    radius = math.inf
    num_products = 0
    while True:
        (gradient_norm,) = here.agree(np.linalg.norm(gradient))
        if not gradient_norm > gradient_tolerance or num_products >= max_products:  # NaN ends it, too
            break
        direction = _quasi_newton_direction(gradient, pairs)
        image = here.matvec(direction)
        slope, curvature, length = here.agree(gradient @ direction, direction @ image, np.linalg.norm(direction))
        num_products += 1
        newton = -slope / curvature if curvature > 0 else math.inf
        if num_products == 1:
            radius = length * (-slope / abs(curvature) if curvature else 1.0)
        scale = min(newton, radius / length)
        widen = newton > scale
        while (predicted := -scale * (slope + scale * curvature / 2)) > rounding * abs(value):
            there = here.at(position + scale * direction)
            reached = there.loss()
            agreement = (value - reached) / predicted
            if 0.5 <= agreement <= 1.5:
                break
            scale /= 4
            radius = scale * length
            widen = False
        else:
            break
        if widen and 0.75 <= agreement <= 1.25:
            radius *= 2
        step, change = scale * direction, there.gradient() - gradient
        if step @ change > 1e-10 * np.linalg.norm(step) * np.linalg.norm(change):
            pairs.append((step, change))
        here, value = there, reached
        position, gradient = position + step, gradient + change
    return ExcessRisk(
        value=start - value,
        loss=start,
        minimum=value,
        gradient_norm=gradient_norm,
        converged=gradient_norm <= gradient_tolerance,
        num_products=num_products,
        point=position,
    )


def newton_decrement(operator: HessianOperator, *, steps: int = 30) -> float:
    r"""Estimate the excess risk from gradient and curvature at a point, without a descent.

    $$
    \tfrac{1}{2} gᵀ H^+ g ≈ \tfrac{1}{2} ‖g‖² \sum_i s_{1i}² / θ_i, \qquad g = ∇J(θ),
    $$

    with the eigenpairs (θ_i, s_i) of the tridiagonal matrix of the Lanczos iteration from g. For a quadratic loss it is
    the excess risk. Directions of negative or zero curvature are left out: gradient and curvature determine no minimum
    there.

    Args:
        operator: The Hessian at the point, which also provides the gradient.
        steps: Number of Lanczos steps; each costs one product.

    Returns:
        The Newton decrement, never negative.

    Example:
        >>> model = nn.Linear(1, 1, bias=False).double()
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> x = torch.ones(1, 1, dtype=torch.float64)
        >>> hessian = HessianOperator(model, lambda model, batch: (3 * model(batch[0]) ** 2).mean(), (x,))
        >>> round(newton_decrement(hessian), 9)
        12.0

    References:
        Boyd, Vandenberghe: Convex optimization, section 9.5, 2004, doi:10.1017/CBO9780511804441. Golub, Meurant:
        Matrices, moments and quadrature, 1994, arXiv:math/9403226.
    """
    nodes, weights = quadratic_form(operator, operator.gradient(), steps=steps)
    inside = nodes > 1e-12 * np.abs(nodes).max(initial=0.0)
    return float(0.5 * (weights[inside] / nodes[inside]).sum())


def _quasi_newton_direction(gradient: Array, pairs: deque[tuple[Array, Array]]) -> Array:
    """Multiply the negative gradient by the inverse Hessian that BFGS infers from steps s and gradient changes y."""
    direction = -gradient
    coefficients = []
    for s, y in reversed(pairs):
        coefficients.append(s @ direction / (s @ y))
        direction = direction - coefficients[-1] * y
    if pairs:
        s, y = pairs[-1]
        direction *= s @ y / (y @ y)
    for (s, y), coefficient in zip(pairs, reversed(coefficients), strict=True):
        direction += (coefficient - y @ direction / (s @ y)) * s
    return direction


class BasinDescent(PointMeasure):
    """Excess risk J(x) − J(x*), x* the end of a descent from x.

    Comes with the gradient norm at which the descent stopped; see `basinet.analysis.measures.risk.excess_risk`.

    Args:
        products: Maximum number of Hessian products of the descent, one per step.
        gradient_norm: Gradient norm at which it has converged.

    References:
        Liu, Nocedal: On the limited memory BFGS method for large scale optimization, Mathematical Programming 45,
        1989, doi:10.1007/BF01589116.
    """

    name = "excess_risk"
    label = "excess risk J(x) − J(x*)"
    heading = "excess risk"
    direction = "smaller"
    trial: ClassVar = {"products": 1}

    def __init__(self, products: Count = 300, gradient_norm: Positive = 1e-5) -> None:
        self.products, self.gradient_norm = products, gradient_norm

    def at(self, points: Points) -> list[Row]:
        """See `PointMeasure`."""
        least, most = self.gradient_norm, self.products
        descents = [descend(hessian, gradient_tolerance=least, max_products=most) for hessian in points.operators()]
        return [{"excess_risk": d.value, "excess_risk_gradient_norm": d.gradient_norm} for d in descents]


class NewtonDecrement(PointMeasure):
    """Newton decrement ½ gᵀ H⁺ g: the excess risk estimated from gradient and curvature, without a descent.

    Args:
        steps: Number of Lanczos steps from the gradient g.

    References:
        Boyd, Vandenberghe: Convex optimization, section 9.5, 2004, doi:10.1017/CBO9780511804441.
    """

    label = "Newton decrement ½ gᵀ H⁺ g"
    heading = "Newton decrement"
    direction = "smaller"
    trial: ClassVar = {"steps": 1}

    def __init__(self, steps: Count = 30) -> None:
        self.steps = steps

    def at(self, points: Points) -> list[float]:
        """See `PointMeasure`."""
        return [newton_decrement(hessian, steps=self.steps) for hessian in points.operators()]
