"""Patterns of names, in which * stands for any characters."""

import fnmatch
from collections.abc import Collection, Iterable

__all__ = ["fits", "matched"]


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
