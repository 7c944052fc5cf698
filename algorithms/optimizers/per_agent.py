"""What optimizers share that look at an agent as a whole: one norm an agent, over all of its parameters."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from basinet.algorithms.norms import inverse_norms

__all__ = ["Entry", "PerAgentOptimizer"]

Entry = tuple[nn.Parameter, dict[str, Any]]
"""A parameter that has a gradient, and its group."""

_ALLOWED: dict[str, tuple[Callable[[float], bool], str]] = {
    "lr": (lambda value: 0 <= value < math.inf, "at least 0"),
    "momentum": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "clip": (lambda value: value > 0, "above 0"),
    "weight_decay": (lambda value: 0 <= value < math.inf, "at least 0"),
}


class PerAgentOptimizer(Optimizer):
    """An optimizer that takes norms over all parameters of an agent, those of all groups together.

    A subclass says in `_update` how it steps from the gradients that the parameters hold. One that needs others than
    those at the parameters evaluates them in a method `prepare(closure)`, which `step` calls where it has a closure.

    Args:
        params: Parameters, or groups of them.
        defaults: Settings of the groups: `lr`, `weight_decay`, `maximize`, and others.
        agents: How many agents the leading axis of each parameter counts; None for a plain model.

    Raises:
        ValueError: A setting is out of its range.
    """

    stacked = "flat"

    def __init__(self, params: Iterable[nn.Parameter], defaults: dict[str, Any], agents: int | None) -> None:
        for name, (allows, words) in _ALLOWED.items():
            if name in defaults and not allows(defaults[name]):
                raise ValueError(f"{name} must be {words}, got {defaults[name]}")
        self.agents = agents
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step.

        Args:
            closure: Computes the gradients anew, on the same samples at each call, and returns the loss; without it
                they are those that the parameters hold.

        Returns:
            The loss, if a closure is given.
        """
        loss = None if closure is None else getattr(self, "prepare", self._evaluate)(closure)
        entries = self._entries()
        if entries:
            self._update(entries)
        return loss

    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        with torch.enable_grad():
            return closure()

    def _update(self, entries: Sequence[Entry]) -> None:
        raise NotImplementedError

    def _entries(self) -> list[Entry]:
        return [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]

    def _inverse_norms(self, parts: Sequence[Tensor]) -> Tensor:
        """Compute 1 / ‖v_n‖ of each agent n, over all parts: [N], or [1] of a plain model."""
        return inverse_norms(parts if self.agents else [part.unsqueeze(0) for part in parts])

    def _along(self, factors: Tensor, p: Tensor) -> Tensor:
        """Shape one factor an agent so that it multiplies the agent's part of a parameter."""
        return factors.view(-1, *(1 for _ in p.shape[1:])) if self.agents else factors[0]

    def _clipped(self, entries: Sequence[Entry]) -> list[Tensor]:
        """Clip each agent's gradient: min(1, h / ‖g‖) g, which is g itself where h is infinite."""
        gradients = [p.grad for p, _ in entries if p.grad is not None]
        if all(group["clip"] == math.inf for _, group in entries):
            return gradients
        inverse = self._inverse_norms(gradients)
        return [
            g if group["clip"] == math.inf else g * self._along((group["clip"] * inverse).clamp_max(1), p)
            for g, (p, group) in zip(gradients, entries, strict=True)
        ]

    def _move(self, p: nn.Parameter, group: dict[str, Any], direction: Tensor, factors: Tensor | None = None) -> None:
        """Decay, then step: x ← (1 − μλ) x − μ c_n d_n, with a factor c_n an agent."""
        lr = group["lr"]
        if group["weight_decay"]:
            p.mul_(1 - lr * group["weight_decay"])
        step = lr if group["maximize"] else -lr
        if factors is None:
            p.add_(direction, alpha=step)
        else:
            p.addcmul_(direction, self._along(factors, p), value=step)

    @contextmanager
    def _moved(self, entries: Sequence[Entry], places: Sequence[Tensor]) -> Iterator[None]:
        """Have the parameters elsewhere for a while; what they were comes back bit by bit."""
        held = [p.clone() for p, _ in entries]
        try:
            for (p, _), place in zip(entries, places, strict=True):
                p.copy_(place)
            yield
        finally:
            for (p, _), value in zip(entries, held, strict=True):
                p.copy_(value)
