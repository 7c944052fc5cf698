"""Normalised SGD: each agent steps by the direction of its gradient."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from basinet.algorithms.norms import inverse_norms

__all__ = ["NSGD"]


class NSGD(Optimizer):
    r"""Step by the normalised momentum of the gradient.

    $$
    m_t = β m_{t-1} + (1 - β) g_t, \qquad x_{t+1} = x_t - μ \frac{m_t}{‖m_t‖}
    $$

    The norm is one over all parameters of an agent; where it is zero, the step is. The step length is the
    learning rate, however heavy the tails of the gradient noise are.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate μ, the length of a step.
        momentum: β; without it nothing is kept between steps.
        agents: How many agents the leading axis of each parameter counts; None for a plain model.

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
        A. Cutkosky, H. Mehta: Momentum improves normalized SGD, ICML 2020, arXiv:2002.03305. T. Sun, X. Liu, K. Yuan:
        Revisiting gradient normalization and clipping for nonconvex SGD under heavy-tailed noise, JMLR 26 (2025),
        arXiv:2410.16561.
    """

    stacked = "flat"

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.01, momentum: float = 0.0, agents: int | None = None
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must be at least 0, got {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.agents = agents
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step.

        Args:
            closure: Computes the gradients again and returns the loss.

        Returns:
            The loss, if a closure is given.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        stepped = [
            (p, self._direction(p, group), group["lr"])
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        if not stepped:
            return loss
        inverse = inverse_norms([m if self.agents else m.unsqueeze(0) for _, m, _ in stepped])
        for p, m, lr in stepped:
            p.addcmul_(m, inverse.view(-1, *(1 for _ in p.shape[1:])) if self.agents else inverse[0], value=-lr)
        return loss

    def _direction(self, p: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """Update and return the momentum of a parameter, or its gradient where there is none."""
        assert p.grad is not None
        if not group["momentum"]:
            return p.grad
        m: Tensor = self.state[p].setdefault("momentum", torch.zeros_like(p))
        return m.lerp_(p.grad, 1 - group["momentum"])
