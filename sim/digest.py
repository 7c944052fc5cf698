"""Names and digests: objects of the user's own are told apart by what they hold and by code that no module names."""

import hashlib
import importlib
import types
import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

__all__ = ["digest", "importable", "name_of", "plain"]


def name_of(given: Any) -> str:
    """Name an object of the user's, a class or function by its place.

    Args:
        given: Any object.

    Returns:
        `module:name` of it, or of its class.

    Example:
        >>> name_of(nearest := sorted), name_of([])
        ('builtins:sorted', 'builtins:list')
    """
    owner = given if hasattr(given, "__qualname__") else type(given)
    return f"{getattr(owner, '__module__', None)}:{owner.__qualname__}"


def importable(given: Any) -> bool:
    """Tell whether a name says what an object is: whether it can be imported, from elsewhere than the user's script.

    Args:
        given: Any object.

    Returns:
        Whether it is a class or function that its module holds under its name.
    """
    module = getattr(given, "__module__", None)
    if not hasattr(given, "__qualname__") or not isinstance(module, str) or module == "__main__":
        return False
    try:
        found: Any = importlib.import_module(module)
        for part in given.__qualname__.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return found is given


def digest(value: Any) -> str:
    """Digest an object, the same in every process.

    Args:
        value: Any object. Classes and functions that can be imported count by name, others by their code.

    Returns:
        Hexadecimal digits: equal for equal content. What cannot be copied (an open file) has a new digest each time.
    """
    walk = _Walk()
    try:
        walk.visit(value)
    except Exception:  # whatever an object does that is no plain data
        return uuid.uuid4().hex[:16]
    return walk.hash.hexdigest()[:16]


def plain(value: Any) -> Any:
    """Turn a value into what YAML can hold.

    Args:
        value: Nested mappings and sequences of plain values, or of objects of the user's own.

    Returns:
        The same nesting; an object is named, with its digest where the name does not say what it is.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return name_of(value) if importable(value) else f"{name_of(value)} {digest(value)}"


class _Walk:
    """Visits an object's parts, as pickling would, and notes what it finds."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.places: dict[int, int] = {}
        self.kept: list[Any] = []  # alive, so that no identity is used twice

    def visit(self, value: Any) -> None:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            self.note(repr(value))
        elif id(value) in self.places:
            self.note(f"the part at {self.places[id(value)]}")
        elif importable(value) or isinstance(value, types.ModuleType):
            self.note(f"{name_of(value)} {getattr(value, '__name__', '')}")
        else:
            self.places[id(value)] = len(self.places)
            self.kept.append(value)
            self.note(name_of(type(value)))
            self.visit_parts(value)

    def visit_parts(self, value: Any) -> None:
        import torch  # here, since reports read folders without it

        if isinstance(value, torch.Tensor):
            flat = value.detach().cpu().flatten()
            self.note(str((value.dtype, value.shape, value.requires_grad)))
            self.visit(flat.view(torch.uint8).numpy() if flat.numel() else None)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self.note(str((value.dtype, value.shape)))
            self.hash.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        elif type(value) in (list, tuple, dict):
            self.note(str(len(value)))
            for part in chain.from_iterable(value.items()) if isinstance(value, dict) else value:
                self.visit(part)
        elif isinstance(value, set | frozenset):
            self.visit(sorted(digest(part) for part in value))
        elif isinstance(value, types.FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            self.visit([_code(value.__code__), value.__defaults__, value.__kwdefaults__, cells])
        elif isinstance(value, type):
            # What makes the class what it is; not what Python or a decorator has hung on to it.
            held = {name: part for name, part in sorted(vars(value).items()) if _tells(name, part)}
            self.visit([value.__qualname__, value.__bases__, held])
        elif isinstance(value, _DECORATED):
            self.visit([getattr(value, name, None) for name in ("fget", "fset", "__func__", "func")])
        else:
            made = value.__reduce_ex__(4)
            parts = (made,) if isinstance(made, str) else made
            self.visit([list(part) if isinstance(part, Iterator) else part for part in parts])

    def note(self, text: str) -> None:
        self.hash.update(f"{text}\n".encode())


_DECORATED = (property, classmethod, staticmethod, cached_property)
_DATA = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)


def _tells(name: str, part: Any) -> bool:
    """Whether an attribute of a class is the user's own: a method, or data without underscores around its name."""
    return isinstance(part, (types.FunctionType, *_DECORATED)) or (
        isinstance(part, _DATA) and not name.startswith("__")
    )


def _code(code: types.CodeType) -> list[Any]:
    constants = [_code(c) if isinstance(c, types.CodeType) else c for c in code.co_consts]
    return [code.co_code, code.co_names, constants]
