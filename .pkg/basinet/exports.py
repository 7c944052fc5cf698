"""Names that are imported when they are first used: torch and matplotlib take seconds."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazy"]


def lazy(package: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the `__getattr__` and the `__dir__` of a package that exports names of modules.

    Args:
        package: Its name; its `__all__` is what it exports.
        homes: Names by the module that has them.

    Returns:
        The two functions.
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def fetch(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return fetch, lambda: list(sys.modules[package].__all__)
