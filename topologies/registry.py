"""Registries of the components that an experiment can name, filled from the modules of a folder."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib.util import find_spec
from typing import Any, TypeVar

__all__ = ["Registry"]

Made = TypeVar("Made")
Maker = TypeVar("Maker", bound=Callable[..., Any])

_REGISTERS = r"""^@{}\.register\((?:["'](.*?)["'])?\)\n(?:@.*\n)*(?:def|class) (\w+)"""
"""A decorator of a registry at the top level of a module, with the name it gives, and the name of what it decorates."""


class Registry(MutableMapping[str, Callable[..., Made]]):
    """Makers of components of one kind, by name.

    A module in the folder of its kind registers its components, and needs no entry elsewhere. It is imported when one
    of them is looked up: a run imports what it names, of hundreds of modules.

    Args:
        word: The variable that holds it, by which modules call it.
        makers: Makers known from the start.

    Example:
        >>> shapes = Registry[str]("shapes")
        >>> @shapes.register()
        ... def square(side: int) -> str:
        ...     return f"{side} by {side}"
        >>> shapes["square"](2)
        '2 by 2'
    """

    def __init__(self, word: str, makers: Mapping[str, Callable[..., Made]] | None = None) -> None:
        self._registers = re.compile(_REGISTERS.format(re.escape(word)), re.MULTILINE)
        self._makers = dict(makers or {})
        self._homes: dict[str, str] = {}

    def register(self, name: str = "") -> Callable[[Maker], Maker]:
        """Return a decorator that registers a maker.

        Args:
            name: Its name in experiments; by default its own name.

        Returns:
            The decorator, which returns the maker unchanged.
        """

        def register(maker: Maker) -> Maker:
            known = name or maker.__name__
            if self._makers.setdefault(known, maker) is not maker:
                raise ValueError(f"{known} is registered twice: {self._makers[known]} and {maker}")
            return maker

        return register

    def fill(self, package: str) -> None:
        """Find what the modules of a package, nested ones too, register by decorators at their top level.

        Args:
            package: Name of the package.

        Raises:
            ValueError: Two modules register the same name.
        """
        for module, text in _texts(package):
            for given, own in self._registers.findall(text):
                if self._homes.setdefault(given or own, module) != module:
                    raise ValueError(f"{given or own} is registered twice: in {self._homes[given or own]} and {module}")

    def __getitem__(self, name: str) -> Callable[..., Made]:
        if name not in self._makers and name in self._homes:
            importlib.import_module(self._homes[name])
        return self._makers[name]

    def __setitem__(self, name: str, maker: Callable[..., Made]) -> None:
        self._makers[name] = maker

    def __delitem__(self, name: str) -> None:
        self[name]
        del self._makers[name]
        self._homes.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._makers or name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._makers, *self._homes}))

    def __len__(self) -> int:
        return len({*self._makers, *self._homes})


def _texts(package: str) -> Iterator[tuple[str, str]]:
    """Read the modules of a package, importing only those that are packages themselves."""
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        spec: Any = find_spec(module.name)
        yield module.name, spec.loader.get_source(module.name)
