"""Patterns of names, in which * stands for any characters."""

import fnmatch
import glob
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import nn

__all__ = ["first_names", "fits", "matched", "trained_names"]


def trained_names(model: nn.Module) -> dict[str, list[str]]:
    """List the names of the trained parameters, of which a tied one has several.

    Args:
        model: A model.

    Returns:
        All names of each parameter by its first, in the order of `named_parameters`.
    """
    found: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            found.setdefault(parameter, []).append(name)
    return {names[0]: names for names in found.values()}


def first_names(patterns: Iterable[str], names: Mapping[str, Sequence[str]]) -> list[str]:
    """Rewrite patterns that fit another name of a tied parameter than its first.

    Args:
        patterns: The patterns.
        names: All names of each parameter by its first.

    Returns:
        Patterns whose first names are those of the same parameters; one that fits none is left as it is.
    """
    found = []
    for pattern in patterns:
        tied = [
            first
            for first, every in names.items()
            if not fits(first, [pattern]) and any(fits(n, [pattern]) for n in every)
        ]
        if not tied or any(fits(first, [pattern]) for first in names):
            found.append(pattern)
        found += map(glob.escape, tied)
    return found


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name fits one of some patterns.

    Args:
        name: The name, such as that of a parameter.
        patterns: The patterns.

    Returns:
        Whether it does.
    """
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def matched(
    patterns: Iterable[str], names: Collection[str], what: str = "parameter", shown: Iterable[str] = ()
) -> list[str]:
    """Find the names that fit.

    Args:
        patterns: The patterns.
        names: The names to choose from.
        what: What they name, for the message.
        shown: The names in the message; by default, those to choose from.

    Returns:
        The names that fit one of the patterns, in their order.

    Raises:
        ValueError: A pattern fits none.
    """
    for pattern in patterns:
        if not any(fits(name, [pattern]) for name in names):
            known = [name for name in shown or names if name]
            listed = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
            raise ValueError(f"no {what} fits '{pattern}'; there are {listed or 'none'}")
    return [name for name in names if fits(name, patterns)]
