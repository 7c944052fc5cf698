"""What optimizers share that look at an agent as a whole: one norm an agent, over all of its parameters."""

import math
from abc import ABC, abstractmethod
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


class PerAgentOptimizer(Optimizer, ABC):
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
        self.agents = agents
        super().__init__(params, defaults)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "agents": self.agents}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own.

        Args:
            param_group: `params`, and the settings that differ.

        Raises:
            ValueError: A setting is out of its range.
        """
        settings = self.defaults | param_group
        for name, (allows, words) in _ALLOWED.items():
            if name in settings and not allows(settings[name]):
                raise ValueError(f"{name} must be {words}, got {settings[name]}")
        super().add_param_group(param_group)

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

    @abstractmethod
    def _update(self, entries: Sequence[Entry]) -> None:
        """Step from the gradients that the parameters hold."""

    def _entries(self) -> list[Entry]:
        return [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]

    def _inverse_norms(self, parts: Sequence[Tensor]) -> Tensor:
        """Compute 1 / ‖v_n‖ of each agent n, over all parts: [N], or [1] of a plain model."""
        return inverse_norms(parts if self.agents else [part.reshape(1, -1) for part in parts])

    def _along(self, factors: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Shape one factor an agent so that it multiplies the agent's part of each parameter."""
        # As many axes as the parameter: a number without any would take on the parameter's type, which may be short.
        shaped = {d: factors.view([-1] + [1] * (d - 1) if d else []) for d in {p.ndim for p in parameters}}
        return [shaped[p.ndim] for p in parameters]

    def _clip_factors(self, entries: Sequence[Entry]) -> list[Tensor | None]:
        """Compute min(1, h / ‖g‖) of each agent, for each parameter [N, 1, ...]; None where h is infinite."""
        if all(group["clip"] == math.inf for _, group in entries):
            return [None for _ in entries]
        inverse = self._inverse_norms([p.grad for p, _ in entries if p.grad is not None])
        clips = {clip: (clip * inverse).clamp_max(1) for clip in {group["clip"] for _, group in entries}}
        return [
            None if group["clip"] == math.inf else self._along(clips[group["clip"]], [p])[0] for p, group in entries
        ]

    def _clipped(self, entries: Sequence[Entry]) -> list[Tensor]:
        """Clip each agent's gradient: min(1, h / ‖g‖) g, which is g itself where h is infinite."""
        gradients = [p.grad for p, _ in entries if p.grad is not None]
        return [
            g if factors is None else (g * factors).to(g.dtype)
            for g, factors in zip(gradients, self._clip_factors(entries), strict=True)
        ]

    def _move(self, entries: Sequence[Entry], directions: Sequence[Tensor], factors: Tensor | None = None) -> None:
        """Decay, then step: x ← (1 − μλ) x − μ c_n d_n, with a factor c_n an agent."""
        for group in self.param_groups:
            mine = [place for place, (_, own) in enumerate(entries) if own is group]
            if not mine:
                continue
            parameters: list[Tensor] = [entries[place][0] for place in mine]
            along = [directions[place] for place in mine]
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            step = group["lr"] if group["maximize"] else -group["lr"]
            if factors is None:
                torch._foreach_add_(parameters, along, alpha=step)
            else:
                torch._foreach_addcmul_(parameters, along, self._along(factors, parameters), step)

    @contextmanager
    def _moved(self, parameters: Sequence[nn.Parameter], places: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Have parameters elsewhere for a while; what they were is given, and comes back bit by bit."""
        held = [p.detach().clone() for p in parameters]
        try:
            for p, place in zip(parameters, places, strict=True):
                p.copy_(place)
            yield held
        finally:
            for p, value in zip(parameters, held, strict=True):
                p.copy_(value)
