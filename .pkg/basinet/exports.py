"""Lazily imported names: torch and matplotlib take seconds to import."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazy"]


def lazy(package: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the `__getattr__` and `__dir__` of a package that lazily exports names from modules.

    Args:
        package: Name of the package; its `__all__` lists the exported names.
        homes: Exported names, by the module that defines them.

    Returns:
        The functions `__getattr__` and `__dir__`.
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def fetch(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return fetch, lambda: list(sys.modules[package].__all__)
