"""Parts shared by the runs of a grid: each is made once for all runs that agree in what it depends on."""

import json
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from basinet.sim.experiment.component import Component, ExperimentError

__all__ = ["Shared"]

T = TypeVar("T")


class Shared:
    """A cache of parts by what they depend on; a part that could not be made raises the same error again at once."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}
        self._known: dict[int, tuple[Any, Hashable]] = {}

    def __call__(self, what: str, depends: Sequence[Any], make: Callable[[], T]) -> T:
        """Make a part, or return it from the cache.

        Args:
            what: Name of the kind of part.
            depends: What it depends on: plain values, components and tuples of them are compared by value, all else
                by identity.
            make: Makes the part.

        Returns:
            The part.

        Raises:
            ExperimentError: It cannot be made.
        """
        place = (what, *map(self._identity, depends))
        if place not in self._made:
            try:
                self._made[place] = make()
            except ExperimentError as error:
                self._made[place] = error
        found: T | ExperimentError = self._made[place]
        if isinstance(found, ExperimentError):
            raise found.with_traceback(None)
        return found

    def _identity(self, part: Any) -> Hashable:
        if part is None or isinstance(part, bool | int | float | str):
            return (type(part), part)
        if isinstance(part, tuple):
            return tuple(map(self._identity, part))
        if id(part) not in self._known:
            # Kept alive, so that no identity is reused.
            identity = (id(part.target), json.dumps(part.describe())) if isinstance(part, Component) else id(part)
            self._known[id(part)] = (part, identity)
        return self._known[id(part)][1]
