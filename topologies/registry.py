"""Registries of the components that an experiment can name, filled by importing the modules of a folder."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Registry"]

Made = TypeVar("Made")
Maker = TypeVar("Maker", bound=Callable[..., Any])


class Registry(dict[str, Callable[..., Made]]):
    """Makers of components of one kind, by name.

    A module in the folder of its kind registers its components, and needs no entry elsewhere.

    Example:
        >>> shapes = Registry[str]()
        >>> @shapes.register()
        ... def square(side: int) -> str:
        ...     return f"{side} by {side}"
        >>> shapes["square"](2)
        '2 by 2'
    """

    def register(self, name: str = "") -> Callable[[Maker], Maker]:
        """Return a decorator that registers a maker.

        Args:
            name: Its name in experiments; by default its own name.

        Returns:
            The decorator, which returns the maker unchanged.
        """

        def register(maker: Maker) -> Maker:
            known = name or maker.__name__
            if self.setdefault(known, maker) is not maker:
                raise ValueError(f"{known} is registered twice: {self[known]} and {maker}")
            return maker

        return register

    def fill(self, package: str) -> None:
        """Import all modules of a package, nested ones too, so that they register their components.

        Args:
            package: Name of the package.
        """
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            importlib.import_module(module.name)
        ordered = sorted(self.items())
        self.clear()
        self.update(ordered)
