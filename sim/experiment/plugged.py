"""Objects of higher rooms that experiments use; they are imported on first use, from where the package says."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from basinet import PLUGGED

__all__ = ["Registry", "plugged"]


def plugged(what: str) -> Any:
    """Import a plugged-in object.

    Args:
        what: A key of `basinet.PLUGGED`.

    Returns:
        The attribute that it names.
    """
    module, _, attribute = PLUGGED[what].partition(":")
    return getattr(importlib.import_module(module), attribute)


class Registry(Mapping[str, Callable[..., Any]]):
    """A registry of makers, held by a higher room.

    Args:
        what: A key of `basinet.PLUGGED`.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __getitem__(self, name: str) -> Callable[..., Any]:
        maker: Callable[..., Any] = plugged(self.what)[name]
        return maker

    def __iter__(self) -> Iterator[str]:
        return iter(plugged(self.what))

    def __len__(self) -> int:
        return len(plugged(self.what))
