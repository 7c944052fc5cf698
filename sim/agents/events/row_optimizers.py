"""The optimizers of agents that step each at its own time."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim

from basinet.algorithms.optimizers import OptimizerTraits
from basinet.algorithms.optimizers.torch_optimizers import FUSED, TORCH
from basinet.sim.agents.state import StackedState
from basinet.sim.setup.setup import Setup

__all__ = ["RowOptimizers"]


class RowOptimizers:
    """The optimizers of a block's agents, of which some step: each counts its own steps.

    One of torch's own elementwise optimizers has a parameter for each agent, and steps those that have a gradient; of
    any other there is one for each agent.

    Args:
        setup: The parts of the run.
        state: The agents' state, whose parameters [N, P] are stepped in place.
        keys: See `Setup.optimizer_keys`.
    """

    def __init__(self, setup: Setup, state: StackedState, keys: Tensor) -> None:
        kind, settings = setup.config.optimizer.target, setup.config.optimizer.settings
        self._x = state.parameters
        self._together = kind in TORCH and OptimizerTraits.of(kind).elementwise
        self._together &= not (settings.get("groups") or settings.get("layer_decay"))
        if self._together:
            fused: dict[str, Any] = {"fused": True} if kind in FUSED else {}
            self._rows = [nn.Parameter(row.detach()) for row in _apart(self._x)]
            self._optimizer = setup.optimizer(self._rows, **fused)
            (self._group,) = self._optimizer.param_groups
            self._rate, self._step = self._group["lr"], inspect.unwrap(kind.step)  # without hooks, which are slow
            # Without momentum there is nothing to keep apart for agents.
            self._forgets = kind is optim.SGD and not self._group["momentum"]
            self._every = nn.Parameter(self._x.detach())
        else:
            parts = [state.part(slice(n, n + 1)) for n in range(len(self._x))]
            self._each = [setup.local_optimizer(part, keys[n : n + 1]) for n, part in enumerate(parts)]

    @property
    def asks_for_batches(self) -> bool:
        """Whether an agent's next batch depends on what it has seen."""
        return not self._together and any(own.next_batch_size is not None for own in self._each)

    @torch.no_grad()
    def step(self, rows: Sequence[int], x: Tensor, gradients: Tensor, rate: float) -> None:
        """Let some agents step.

        Args:
            rows: Which, all different.
            x: Their parameters [n, P], stepped in place.
            gradients: Their gradients [n, P].
            rate: The schedule's factor on the learning rate.
        """
        if not self._together:
            for row, place, gradient in zip(rows, x, _apart(gradients), strict=True):
                self._x[row].copy_(place)
                self._each[row].step(gradient, rate)
                place.copy_(self._x[row])
            return
        self._group["lr"] = self._rate * rate
        if self._forgets:
            self._take([self._every], [x], [gradients])
            return
        parameters = [self._rows[row] for row in rows]
        begun = [bool(self._optimizer.state.get(parameter)) for parameter in parameters]
        every = list(zip(parameters, _apart(x), _apart(gradients), strict=True))
        for now in {*begun}:  # torch takes those that have no state yet for themselves
            self._take(*zip(*(each for each, has in zip(every, begun, strict=True) if has == now), strict=True))

    def _take(self, parameters: Sequence[nn.Parameter], x: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Let torch's optimizer step parameters, which have these values and gradients."""
        for parameter, place, gradient in zip(parameters, x, gradients, strict=True):
            parameter.data, parameter.grad = place, gradient
        self._group["params"] = parameters
        self._step(self._optimizer)
        for parameter in parameters:
            parameter.grad = None

    def state_dict(self) -> list[Any]:
        """Return the state of each agent's optimizer, plain values and tensors."""
        if self._together:
            return [dict(self._optimizer.state.get(row, {})) for row in self._rows]
        return [own.state_dict() for own in self._each]

    def load_state_dict(self, state: Sequence[Any]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: That of these agents.
        """
        if not self._together:
            for own, held in zip(self._each, state, strict=True):
                own.load_state_dict(held)
            return
        for row, held in zip(self._rows, state, strict=True):
            self._optimizer.state[row] = {name: _copied(value, row) for name, value in held.items()}


def _apart(rows: Tensor) -> tuple[Tensor, ...]:
    """Return rows [n, P] one by one, views [1, P]."""
    return rows.unsqueeze(1).unbind()


def _copied(value: Any, row: Tensor) -> Any:
    """Copy a part of an optimizer's state; what is as large as the parameters, to their device."""
    if not isinstance(value, Tensor):
        return value
    return value.to(row.device, copy=True) if value.shape == row.shape else value.clone()
