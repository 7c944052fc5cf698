"""Normalised SGD with gradients at other points than the parameters: variance-reduced, and accelerated."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from basinet.algorithms.optimizers.normalized.nsgd import NSGDC
from basinet.algorithms.optimizers.normalized.per_agent import Entry, clipped
from basinet.algorithms.optimizers.optimizer_traits import OPTIMIZERS, OptimizerTraits
from basinet.algorithms.row_norms import RowMath, per_row, row_math

__all__ = ["ANSGDC", "NSGDCVR"]


class _Remembering(NSGDC):
    """NSGDC that keeps the point at which its gradients were last evaluated."""

    _here: list[Tensor] | None = None
    """Point of the prepared gradients: a step makes it the previous point of an active agent."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_here": self._here}

    def _update(self, entries: Sequence[Entry]) -> None:
        if self._here is None:
            raise RuntimeError(
                f"{type(self).__name__} needs gradients at other points than the parameters: give step a closure, or"
                " call prepare before it"
            )
        super()._update(entries)
        for (p, _), here in zip(self._trained(), self._here, strict=True):
            self.state[p]["previous"] = here
        self._here = None

    def _trained(self) -> list[tuple[nn.Parameter, dict[str, Any]]]:
        return [(p, group) for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _previous(self) -> list[Tensor]:
        """Return the previous point; the current one for an agent without momentum, which has no past."""
        parameters = [p for p, _ in self._trained()]
        moments = [self.state[p]["momentum"] for p in parameters if "momentum" in self.state[p]]
        if not moments:
            return [p.detach() for p in parameters]
        started = torch.stack([m.reshape(self.agents or 1, -1).any(1) for m in moments]).any(0)
        return [
            torch.where(begun, self.state[p].get("previous", p.detach()), p.detach())
            for p, begun in zip(parameters, per_row(started, parameters), strict=True)
        ]


@OPTIMIZERS.register("nsgdc_vr")
class NSGDCVR(_Remembering):
    r"""NSGDC with variance reduction: the momentum is moved from point to point by gradient differences.

    $$
    m_t = θ \bigl(m_{t-1} + g_t(x_t) - g_t(x_{t-1})\bigr) + (1 - θ) \min(1, h / ‖g_t(x_t)‖) g_t(x_t), \qquad
    x_{t+1} = x_t - μ \frac{m_t}{‖m_t‖}
    $$

    Both gradients g_t use the same samples and random masks: with different samples they do not cancel, and it does not
    converge. A step takes two gradients; m and the previous point are kept, each as large as the parameters.

    `prepare` leaves in the gradients the whole sum except θ m_{t−1}. If agents average gradients before the step, each
    has clipped its own: the sum is linear in the rest, so that averaging it is right.

    Args:
        params: See `NSGD`.
        lr: See `NSGD`.
        momentum: See `NSGD`.
        clip: See `NSGD`.
        weight_decay: See `NSGD`.
        maximize: See `NSGD`.
        agents: See `NSGD`.

    References:
        A. Cutkosky, F. Orabona: Momentum-based variance reduction in non-convex SGD, NeurIPS 2019, arXiv:1905.10018.
        T. Sun, X. Liu, K. Yuan, JMLR 26 (2025), arXiv:2410.16561.
    """

    traits = OptimizerTraits(stacked="flat", evaluates=True, tuning="nsgdc_vr")

    @torch.no_grad()
    def prepare(self, closure: Callable[[], Any]) -> Any:
        """Evaluate the gradients here and at the previous point, and store their combination.

        Args:
            closure: Computes the gradients anew, on the same samples at each call, and returns the loss.

        Returns:
            The loss at the parameters.
        """
        loss = self._evaluate(closure)
        entries = self._entries()
        here = [[g.clone() for g in gradients] for _, _, gradients in entries]
        factors = self._clip_factors(row_math(self.agents or 1, *here), entries)
        with self._moved([p for p, _ in self._trained()], self._previous()) as place:
            self._evaluate(closure)
        for (group, parameters, _), old, c in zip(entries, here, factors, strict=True):
            theta = group["momentum"]
            for p, g, clip in zip(parameters, old, clipped(old, c), strict=True):
                assert p.grad is not None
                torch.sub(g, p.grad, out=p.grad).mul_(theta).add_(clip, alpha=1 - theta)
        self._here = place
        return loss

    def _weights(self, rows: RowMath, entries: Sequence[Entry]) -> list[tuple[Any, float]]:
        return [(None, 1.0) for _ in entries]  # `prepare` has clipped and weighted them


@OPTIMIZERS.register("a_nsgdc")
class ANSGDC(_Remembering):
    r"""Accelerated NSGDC: the gradient is evaluated ahead, which corrects the staleness of the momentum.

    $$
    v_t = x_t + \frac{θ}{1 - θ} (x_t - x_{t-1}), \qquad
    m_t = θ m_{t-1} + (1 - θ) \min(1, h / ‖g_t(v_t)‖) g_t(v_t), \qquad x_{t+1} = x_t - μ \frac{m_t}{‖m_t‖}
    $$

    Without clipping it is NIGT, by implicit gradient transport. It is faster than NSGDC where the Hessian is Lipschitz.
    A step takes one gradient, which `prepare` evaluates; m and the previous point are kept, each as large as the
    parameters.

    Args:
        params: See `NSGD`.
        lr: See `NSGD`.
        momentum: See `NSGD`.
        clip: See `NSGD`.
        weight_decay: See `NSGD`.
        maximize: See `NSGD`.
        agents: See `NSGD`.

    References:
        A. Cutkosky, H. Mehta: Momentum improves normalized SGD, ICML 2020, arXiv:2002.03305. T. Sun, X. Liu, K. Yuan,
        JMLR 26 (2025), arXiv:2410.16561.
    """

    traits = OptimizerTraits(stacked="flat", evaluates=True, tuning="a_nsgdc")

    @torch.no_grad()
    def prepare(self, closure: Callable[[], Any]) -> Any:
        """Evaluate the gradients at the point ahead.

        Args:
            closure: Computes the gradients anew, on the same samples at each call, and returns the loss.

        Returns:
            The loss there.
        """
        trained = self._trained()
        ahead = [
            p.add(p - previous, alpha=group["momentum"] / (1 - group["momentum"]))
            for (p, group), previous in zip(trained, self._previous(), strict=True)
        ]
        with self._moved([p for p, _ in trained], ahead) as place:
            loss = self._evaluate(closure)
        self._here = place
        return loss
