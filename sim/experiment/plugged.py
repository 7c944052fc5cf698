"""What rooms above plug into an experiment: the package says where it is, and its first use imports it."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from basinet import PLUGGED

__all__ = ["Registry", "plugged"]


def plugged(what: str) -> Any:
    """Import what is plugged in.

    Args:
        what: A key of `basinet.PLUGGED`.

    Returns:
        The attribute that it names.
    """
    module, _, attribute = PLUGGED[what].partition(":")
    return getattr(importlib.import_module(module), attribute)


class Registry(Mapping[str, Callable[..., Any]]):
    """Makers by name that a room above registers.

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
