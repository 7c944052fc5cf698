"""Base class of optimizers on the agents' stacked state: checks of settings and parameters, and keys for draws."""

import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from basinet.algorithms import draws

__all__ = [
    "ABOVE_0",
    "AT_LEAST_0",
    "BELOW_1",
    "COUNT",
    "FLAG",
    "RATE",
    "WHOLE",
    "Rule",
    "StackedOptimizer",
    "named_parameters",
    "rate_of",
]

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value is allowed, and a description of what is."""


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral)


AT_LEAST_0: Rule = (lambda value: _is_number(value) and value >= 0, "a finite number of at least 0")
RATE: Rule = (
    lambda value: AT_LEAST_0[0](value.item() if isinstance(value, Tensor) and value.numel() == 1 else value),
    f"{AT_LEAST_0[1]}, or a tensor that holds one",
)
ABOVE_0: Rule = (lambda value: _is_number(value) and value > 0, "a finite number above 0")
BELOW_1: Rule = (lambda value: _is_number(value) and 0 <= value < 1, "a number in [0, 1)")
WHOLE: Rule = (_is_whole, "a whole number")
COUNT: Rule = (lambda value: _is_whole(value) and value >= 1, "a whole number of at least 1")
FLAG: Rule = (lambda value: isinstance(value, bool), "True or False")


def rate_of(group: Mapping[str, Any]) -> float:
    """Return the learning rate of a group as a float; it may be a tensor.

    Args:
        group: Its settings.

    Returns:
        μ.
    """
    return float(group["lr"])


def named_parameters(params: Iterable[Any], patterns: Iterable[str]) -> dict[str, set[Tensor]]:
    """Return the parameters that an optimizer's setting `whole` names.

    Args:
        params: Names and parameters.
        patterns: Names, with * for any letters.

    Returns:
        For each pattern the parameters that fit it.

    Raises:
        ValueError: Parameters have no names.
    """
    items = list(params)
    names = {item[0]: item[1] for item in items if isinstance(item, tuple)}
    if len(names) < len(items):
        raise ValueError("whole names parameters: give them with their names, as model.named_parameters() does")
    return {pattern: {p for name, p in names.items() if fnmatchcase(name, pattern)} for pattern in patterns}


class StackedOptimizer(Optimizer):
    """Optimizer of parameters stacked over agents along their leading axis, or of a plain model.

    Args:
        params: Parameters, or groups of them.
        defaults: Settings of the groups.
        agents: Number of agents on the leading axis of each parameter; None for a plain model.
        keys: The agents' keys for random draws, int64 [N, 2]: an agent's own, and one shared by its replica. By default
            they follow from the setting `seed`.

    Raises:
        ValueError: A setting is out of its range.
    """

    rules: ClassVar[Mapping[str, Rule]]
    """Rules for the settings of a group."""

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        defaults: dict[str, Any],
        *,
        agents: int | None,
        keys: Tensor | None = None,
    ) -> None:
        self.agents = agents
        self.keys = keys
        super().__init__(params, defaults)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "agents": self.agents, "keys": self.keys}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own.

        Args:
            param_group: `params`, and the settings that differ.

        Raises:
            ValueError: A setting is out of its range, or a parameter cannot be stepped.
        """
        param_group = {**param_group, "params": self._checked(param_group["params"])}
        self._check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def _check_group(self, group: dict[str, Any]) -> None:
        """Raise if settings of a group are not allowed."""
        for name, (allows, words) in self.rules.items():
            if name in group and not allows(group[name]):
                raise ValueError(f"{name} must be {words}, got {group[name]!r}")

    def _checked(self, params: Any) -> list[Any]:
        """Return parameters as a list; raise if they are complex, or stacked for another number of agents."""
        items = [params] if isinstance(params, Tensor) else list(params)
        for place, item in enumerate(items):
            p = item[1] if isinstance(item, tuple) else item
            if not isinstance(p, Tensor):
                continue  # torch says what it is
            if p.is_complex():
                raise ValueError(f"parameters must be real, and parameter {place} is {p.dtype}")
            if self.agents is not None and p.shape[:1] != (self.agents,):
                raise ValueError(
                    f"parameters must lead with the axis of {self.agents} agents, and parameter {place} has the shape"
                    f" {tuple(p.shape)}"
                )
        return items

    def _keys_of(self, group: Mapping[str, Any], device: torch.device) -> Tensor:
        """Return the agents' keys for a group, int64 [N]: equal ones if it is shared."""
        keys = self.keys
        if keys is None:
            common = torch.full((self.agents or 1,), draws.key(group["seed"], "optimizer"))
            keys = torch.stack([draws.fold(common, torch.arange(len(common))), common], 1)
        return keys[:, int(group["shared"])].to(device)
