"""Settings of parameter groups: what they may be, and the keys that a seed stands for."""

import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

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
    "check_settings",
    "checked_parameters",
    "named_parameters",
    "rate_of",
    "seeded_keys",
]

Rule = tuple[Callable[[Any], bool], str]
"""What tells whether a value is allowed, and the words for what is."""


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


def check_settings(group: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Refuse settings that are not allowed.

    Args:
        group: Settings of a group.
        rules: Which of them are allowed.

    Raises:
        ValueError: One is not.
    """
    for name, (allows, words) in rules.items():
        if name in group and not allows(group[name]):
            raise ValueError(f"{name} must be {words}, got {group[name]!r}")


def rate_of(group: Mapping[str, Any]) -> float:
    """Give the learning rate of a group, which may be a tensor.

    Args:
        group: Its settings.

    Returns:
        μ.
    """
    return float(group["lr"])


def checked_parameters(group: Mapping[str, Any], agents: int | None) -> dict[str, Any]:
    """Refuse parameters that an optimizer of stacked agents cannot step.

    Args:
        group: `params`, and settings.
        agents: How many agents the leading axis of each parameter counts; None for a plain model.

    Returns:
        The same with a list of parameters.

    Raises:
        ValueError: A parameter is complex, or its leading axis is another number of agents.
    """
    given = group["params"]
    items = [given] if isinstance(given, Tensor) else list(given)
    for place, item in enumerate(items):
        p = item[1] if isinstance(item, tuple) else item
        if not isinstance(p, Tensor):
            continue  # torch says what it is
        if p.is_complex():
            raise ValueError(f"parameters must be real, and parameter {place} is {p.dtype}")
        if agents is not None and p.shape[:1] != (agents,):
            raise ValueError(
                f"parameters must lead with the axis of {agents} agents, and parameter {place} has the shape"
                f" {tuple(p.shape)}"
            )
    return {**group, "params": items}


def named_parameters(params: Iterable[Any], patterns: Iterable[str]) -> dict[str, set[Tensor]]:
    """Find the parameters that an optimizer's setting `whole` names.

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


def seeded_keys(seed: int, agents: int | None) -> Tensor:
    """Derive the keys of agents outside of a simulation.

    Args:
        seed: Those that have the same draw the same.
        agents: How many agents there are; None for a plain model.

    Returns:
        int64 [N, 2]: an agent's own key, and one that all agents have.
    """
    common = torch.full((agents or 1,), draws.key(seed, "optimizer"))
    return torch.stack([draws.fold(common, torch.arange(len(common))), common], 1)
