"""Differences between two descriptions of a run, and whether they can be established for code and content."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["DIGESTS", "Change", "change_of", "changes"]

DIGESTS = ("digest", "code_digest")
"""Keys of a description that identify the content and code of the user's objects."""

_NAMED = re.compile(r"(?P<name>\S+:\S+)( (?P<digest>[0-9a-f]{16}(-\S+)?))?")
"""The form in which `plain` writes an object given as a setting."""


class Change(NamedTuple):
    """A difference between two descriptions.

    Attributes:
        sentence: What has changed in an object or code of the user's; empty if other keys or values differ.
        sure: Whether it has changed; False if the two were recorded in ways that cannot be compared.
    """

    sentence: str = ""
    sure: bool = True


def changes(key: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare a run's recorded description with its present one.

    Args:
        key: Dotted key of what is compared.
        old: The recorded description, or a part of one, as from `Component.describe`.
        new: The same part of the present one.

    Yields:
        The differences.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        words = ("name", "run", "file", "folder")
        name = next((new[word] for word in words if old.get(word) == new.get(word) is not None), None)
        for word in dict.fromkeys([*old, *new]):
            if word not in DIGESTS or name is None:
                yield from changes(f"{key}.{word}", old.get(word), new.get(word))
            elif old.get(word) != new.get(word):
                yield change_of(key, name, old.get(word), new.get(word))
    elif old != new:
        before, now = (_NAMED.fullmatch(str(value)) for value in (old, new))
        if before and now and before["name"] == now["name"]:
            yield change_of(key, before["name"], before["digest"], now["digest"])
        else:
            yield Change()


def change_of(key: str, name: str, old: str | None, new: str | None) -> Change:
    """Describe what a changed digest means.

    Args:
        key: Dotted key of the object.
        name: Name of the object.
        old: The digest before; None if there was none.
        new: The digest now.

    Returns:
        The difference.
    """
    if _how_told(old) != _how_told(new):
        return Change(
            f"{key}: it cannot be determined whether {name} has changed since the run was begun: it was recorded by"
            f" {_how_told(old)}, and is now identified by {_how_told(new)}",
            sure=False,
        )
    note = f" (it is identified by {_how_told(new)})" if "-" in str(new) and not str(new).endswith("-source") else ""
    return Change(
        f"{key}: {name} has changed since the run was begun: its content, its code, or code of yours that it uses{note}"
    )


def _how_told(known: str | None) -> str:
    if known is None:
        return "its name only"
    how = known.partition("-")[2]
    return f"the byte code of {how}, for lack of its source" if how not in ("", "source") else f"its {how or 'content'}"
