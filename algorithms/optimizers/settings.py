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
    "WHOLE",
    "Rule",
    "check_settings",
    "named_parameters",
    "seeded_keys",
]

Rule = tuple[Callable[[Any], bool], str]
"""What tells whether a value is allowed, and the words for what is."""


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral)


AT_LEAST_0: Rule = (lambda value: _is_number(value) and value >= 0, "a finite number of at least 0")
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


def named_parameters(params: Iterable[Any], patterns: Iterable[str]) -> set[Tensor]:
    """Find the parameters that an optimizer's setting `whole` names.

    Args:
        params: Names and parameters.
        patterns: Names, with * for any letters.

    Returns:
        The parameters that fit one.

    Raises:
        ValueError: Parameters have no names, or a pattern fits none.
    """
    items = list(params)
    names = {item[0]: item[1] for item in items if isinstance(item, tuple)}
    if len(names) < len(items):
        raise ValueError("whole names parameters: give them with their names, as model.named_parameters() does")
    found = {pattern: {p for name, p in names.items() if fnmatchcase(name, pattern)} for pattern in patterns}
    for pattern, fitting in found.items():
        if not fitting:
            raise ValueError(f"whole: no parameter fits '{pattern}'; there are {', '.join(names)}")
    return set().union(*found.values())


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
