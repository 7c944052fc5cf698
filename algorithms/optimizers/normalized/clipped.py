"""Clipped SGD: each agent's gradient is scaled down to a threshold."""

from collections.abc import Iterable, Sequence

from torch import nn

from basinet.algorithms.optimizers.normalized.per_agent import Clip, Entry, PerAgentOptimizer
from basinet.algorithms.optimizers.optimizer_traits import OPTIMIZERS, OptimizerTraits
from basinet.algorithms.row_norms import row_math

__all__ = ["ClippedSGD"]


@OPTIMIZERS.register("clipped_sgd")
class ClippedSGD(PerAgentOptimizer):
    r"""Step by the clipped gradient.

    $$
    x_{t+1} = x_t - μ \min(1, h / ‖g_t‖) g_t
    $$

    The norm is over all parameters of an agent. Nothing is kept between steps.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate μ, by default 0.01.
        clip: h, the largest norm of a gradient, by default 1.
        weight_decay: λ; the parameters shrink by the factor 1 − μλ per step (decoupled).
        maximize: Whether to step uphill.
        agents: Number of agents on the leading axis of each parameter; None for a plain model.

    Raises:
        ValueError: A setting is out of its range.

    Example:
        >>> import torch
        >>> x = nn.Parameter(torch.zeros(2))
        >>> optimizer = ClippedSGD([x], lr=2.0, clip=2.5)
        >>> x.grad = torch.tensor([3.0, 4.0])
        >>> optimizer.step()
        >>> x.data
        tensor([-3., -4.])

    References:
        J. Zhang et al.: Why are adaptive methods good for attention models?, NeurIPS 2020, arXiv:1912.03194.
    """

    traits = OptimizerTraits(stacked="flat", tuning="clipped_sgd")

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float | None = None,
        clip: Clip | None = None,
        *,
        weight_decay: float = 0.0,
        maximize: bool = False,
        agents: int | None = None,
    ) -> None:
        defaults = {
            "lr": 0.01 if lr is None else lr,
            "clip": 1.0 if clip is None else clip,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, agents=agents)

    def _update(self, entries: Sequence[Entry]) -> None:
        rows = row_math(self.agents or 1, *(x for _, x, _ in entries), *(g for _, _, g in entries))
        gradients = [rows.table(g) for _, _, g in entries]
        self._move(rows, entries, gradients, self._clip_factors(rows, entries))
