"""Normalised SGD: each agent steps by the direction of its momentum; with clipping, NSGDC."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from basinet.algorithms.optimizers.normalized.per_agent import Clip, Entry, PerAgentOptimizer, clipped
from basinet.algorithms.optimizers.optimizer_traits import OPTIMIZERS, OptimizerTraits
from basinet.algorithms.row_norms import RowMath, row_math

__all__ = ["NSGD", "NSGDC", "NSGDm"]


@OPTIMIZERS.register("nsgd")
class NSGD(PerAgentOptimizer):
    r"""Step by the normalised momentum of the gradient.

    $$
    m_t = θ m_{t-1} + (1 - θ) \min(1, h / ‖g_t‖) g_t, \qquad x_{t+1} = x_t - μ \frac{m_t}{‖m_t‖}
    $$

    The norms are over all parameters of an agent; where one is zero, so is the step. The step length is the learning
    rate, however heavy the tails of the gradient noise are. It never gets shorter by itself: the rate sets how near a
    minimum the agents come.

    Without momentum the steps follow a median of the gradients: under skewed noise, the agents stop at points where the
    mean gradient does not vanish. Likewise, agents that first normalise and then combine (diffusion) converge to the
    geometric median of their own minima, not to the minimum of the mean loss. To normalise after agreement, use it with
    `gradient_tracking`, which with momentum then is GT-NSGDm.

    With momentum it is also known as NSGDm (NSGD-M), with momentum and clipping as NSGDC. Momentum starts at zero,
    which normalisation compensates; papers that start it at the first gradient give that one 1 / (1 − θ) times the
    weight.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate μ, the length of a step, by default 0.01.
        momentum: θ, by default 0; without it nothing is kept between steps; with it m, which is as large as the
            parameters.
        clip: h, the largest norm of a gradient that enters the momentum, by default infinite.
        weight_decay: λ; the parameters shrink by the factor 1 − μλ per step (decoupled).
        maximize: Whether to step uphill.
        agents: Number of agents on the leading axis of each parameter; None for a plain model.

    Raises:
        ValueError: A setting is out of its range.

    Example:
        >>> x = nn.Parameter(torch.zeros(2))
        >>> optimizer = NSGD([x], lr=5.0)
        >>> x.grad = torch.tensor([3.0, 4.0])
        >>> optimizer.step()
        >>> x.data
        tensor([-3., -4.])

    References:
        A. Cutkosky, H. Mehta: Momentum improves normalized SGD, ICML 2020, arXiv:2002.03305; High-probability bounds
        for non-convex stochastic optimization with heavy tails, NeurIPS 2021, arXiv:2106.14343. T. Sun, X. Liu,
        K. Yuan: Revisiting gradient normalization and clipping for nonconvex SGD under heavy-tailed noise, JMLR 26
        (2025), arXiv:2410.16561.
    """

    traits = OptimizerTraits(stacked="flat", tuning="nsgd")
    _defaults: Mapping[str, float] = {"lr": 0.01, "momentum": 0.0, "clip": math.inf}

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float | None = None,
        momentum: float | None = None,
        clip: Clip | None = None,
        *,
        weight_decay: float = 0.0,
        maximize: bool = False,
        agents: int | None = None,
    ) -> None:
        given = {"lr": lr, "momentum": momentum, "clip": clip}
        settings = {name: self._defaults[name] if value is None else value for name, value in given.items()}
        super().__init__(params, {**settings, "weight_decay": weight_decay, "maximize": maximize}, agents=agents)

    def _update(self, entries: Sequence[Entry]) -> None:
        momenta = [[self._momentum(p) for p in parameters if group["momentum"]] for group, parameters, _ in entries]
        rows = row_math(self.agents or 1, *(x for _, x, _ in entries), *(g for _, _, g in entries), *momenta)
        weights = self._weights(rows, entries)
        squares, directions = rows.zeros(), []
        for (group, _, gradients), moments, (factors, weight) in zip(entries, momenta, weights, strict=True):
            if moments:
                directions.append(rows.table(moments))
                rows.step(directions[-1], rows.table(gradients), factors, weight, group["momentum"], squares)
            else:
                directions.append(rows.table(clipped(gradients, factors)))
                rows.add_squares(directions[-1], squares)
        self._move(rows, entries, directions, [rows.inverse_roots(squares)] * len(entries))

    def _weights(self, rows: RowMath, entries: Sequence[Entry]) -> list[tuple[Any, float]]:
        """Return the weights of the groups' gradients in their momenta: one factor per agent, and 1 − θ."""
        factors = self._clip_factors(rows, entries)
        return [(c, 1 - group["momentum"]) for c, (group, _, _) in zip(factors, entries, strict=True)]

    def _momentum(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        m: Tensor = state["momentum"]
        return m


@OPTIMIZERS.register("nsgdm")
class NSGDm(NSGD):
    """NSGD with momentum, by default 0.9, and without clipping.

    Args:
        params: See `NSGD`.
        lr: See `NSGD`.
        momentum: See `NSGD`.
        weight_decay: See `NSGD`.
        maximize: See `NSGD`.
        agents: See `NSGD`.
    """

    traits = OptimizerTraits(stacked="flat", tuning="nsgdm")
    _defaults: Mapping[str, float] = {"lr": 0.01, "momentum": 0.9, "clip": math.inf}

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float | None = None,
        momentum: float | None = None,
        *,
        weight_decay: float = 0.0,
        maximize: bool = False,
        agents: int | None = None,
    ) -> None:
        super().__init__(params, lr, momentum, weight_decay=weight_decay, maximize=maximize, agents=agents)


@OPTIMIZERS.register("nsgdc")
class NSGDC(NSGD):
    """NSGD with momentum, by default 0.9, and clipping, by default at norm 1.

    With centralised SGD, the mean gradient is clipped. Clipping each agent's gradient, as with diffusion, biases the
    mean of heterogeneous gradients: h should rarely be reached, as with `heavy_tail_settings`.

    Args:
        params: See `NSGD`.
        lr: See `NSGD`.
        momentum: See `NSGD`.
        clip: See `NSGD`.
        weight_decay: See `NSGD`.
        maximize: See `NSGD`.
        agents: See `NSGD`.
    """

    traits = OptimizerTraits(stacked="flat", tuning="nsgdc")
    _defaults: Mapping[str, float] = {"lr": 0.01, "momentum": 0.9, "clip": 1.0}
