"""Base class of optimizers with one norm per agent, over all of its parameters."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.algorithms.optimizers.groups import (
    ABOVE_0,
    AT_LEAST_0,
    BELOW_1,
    FLAG,
    RATE,
    Rule,
    StackedOptimizer,
    rate_of,
)
from basinet.algorithms.optimizers.optimizer_traits import OptimizerTraits
from basinet.algorithms.row_norms import RowMath, per_row

__all__ = ["Clip", "Entry", "PerAgentOptimizer", "clipped"]

Clip = Annotated[float, Field(gt=0, allow_inf_nan=True)]
"""The largest norm of a gradient; infinite without clipping."""

Entry = tuple[dict[str, Any], list[Tensor], list[Tensor]]
"""A group, its parameters with gradients, and these gradients."""


class PerAgentOptimizer(StackedOptimizer, ABC):
    """Optimizer with norms over all parameters of an agent, across groups.

    A subclass implements `_update`, the step from the gradients that the parameters hold. One that needs gradients at
    other points evaluates them in a method `prepare(closure)`, which `step` calls if it has a closure.

    Args:
        params: Parameters, or groups of them.
        defaults: Settings of the groups: `lr`, `weight_decay`, `maximize`, and others.
        agents: Number of agents on the leading axis of each parameter; None for a plain model.

    Raises:
        ValueError: A setting is out of its range.
    """

    traits = OptimizerTraits(stacked="flat")
    rules: ClassVar[Mapping[str, Rule]] = {
        "lr": RATE,
        "momentum": BELOW_1,
        "clip": (lambda value: value == math.inf or ABOVE_0[0](value), "a number above 0"),
        "weight_decay": AT_LEAST_0,
        "maximize": FLAG,
    }

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step.

        Args:
            closure: Computes the gradients anew, on the same samples at each call, and returns the loss; without it,
                the gradients are those that the parameters hold.

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
        entries = []
        for group in self.param_groups:
            parameters: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters if p.grad is not None]
            if any(g.layout != torch.strided for g in gradients):
                raise RuntimeError(f"{type(self).__name__} needs dense gradients, and one of them is sparse")
            if parameters:
                entries.append((group, parameters, gradients))
        return entries

    def _clip_factors(self, rows: RowMath, entries: Sequence[Entry]) -> list[Any]:
        """Compute min(1, h / ‖g‖) of each agent for each group; None where h is infinite."""
        clips = [group["clip"] for group, _, _ in entries]
        if all(h == math.inf for h in clips):
            return [None for _ in clips]
        squares = rows.zeros()
        for _, _, gradients in entries:
            rows.add_squares(rows.table(gradients), squares)
        return [None if h == math.inf else rows.inverse_roots(squares, h, 1.0) for h in clips]

    def _move(self, rows: RowMath, entries: Sequence[Entry], directions: Sequence[Any], factors: Sequence[Any]) -> None:
        """Decay, then step: x ← (1 − μλ) x − μ c_n d_n, with one factor c_n per agent."""
        for (group, parameters, _), d, c in zip(entries, directions, factors, strict=True):
            lr = rate_of(group)
            rows.step(rows.table(parameters), d, c, lr if group["maximize"] else -lr, 1 - lr * group["weight_decay"])

    @contextmanager
    def _moved(self, parameters: Sequence[nn.Parameter], places: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Move parameters temporarily; yield their original values, which are restored bit for bit."""
        held = [p.detach().clone() for p in parameters]
        try:
            for p, place in zip(parameters, places, strict=True):
                p.copy_(place)
            yield held
        finally:
            for p, value in zip(parameters, held, strict=True):
                p.copy_(value)


def clipped(gradients: Sequence[Tensor], factors: Any) -> list[Tensor]:
    """Clip gradients.

    Args:
        gradients: Tensors [N, ...].
        factors: Factors on the agents' gradients, [N]; None for no clipping.

    Returns:
        New tensors, or the gradients themselves where they are not clipped.
    """
    if factors is None:
        return list(gradients)
    shaped = per_row(torch.as_tensor(factors), gradients)
    return [(g * c).to(g.dtype) for g, c in zip(gradients, shaped, strict=True)]
