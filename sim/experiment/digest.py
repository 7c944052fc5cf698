"""Names and digests that identify users' objects by their content and code."""

import ast
import copyreg
import hashlib
import importlib
import os
import sys
import types
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import PurePath
from typing import Any

import numpy as np

from basinet.sim.experiment import source

__all__ = ["digest", "flat", "importable", "installed", "name_of", "plain"]


_MOVED = {"pathlib._local": "pathlib"}
"""Modules under which some versions of Python define what others define elsewhere."""


def name_of(given: Any) -> str:
    """Name a user's object, class or function by where it is defined.

    Args:
        given: Any object.

    Returns:
        `module:name` of it, or of its class.

    Example:
        >>> name_of(nearest := sorted), name_of([])
        ('builtins:sorted', 'builtins:list')
    """
    owner = given if hasattr(given, "__qualname__") else type(given)
    module = str(getattr(owner, "__module__", None))
    return f"{_MOVED.get(module, module)}:{owner.__qualname__}"


def importable(given: Any) -> bool:
    """Return whether an object's name identifies it: it can be imported, from elsewhere than the user's script.

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


def installed(given: Any) -> bool:
    """Return whether an object's name identifies it for good: it can be imported from an installed package.

    Args:
        given: Any object.

    Returns:
        Whether it is importable, and its module is not the user's own.
    """
    return importable(given) and source.is_installed(given.__module__)


def digest(value: Any, *, code: bool = True) -> str:
    """Digest an object, identically in every process.

    Installed classes and functions are identified by name. The user's own are digested by their source, as a syntax
    tree, with everything of the user's that they use: functions and classes by their source, module variables by the
    statement that assigns them, and by their value if it is computed. Names that code constructs at run time are not
    followed.

    Args:
        value: Any object.
        code: Whether code counts; otherwise, the user's own classes and functions are identified by name, too.

    Returns:
        Hexadecimal digits, equal for equal content, then "-source" if code was read, or the version of Python, such
        as "-cpython-311", if byte code was digested because some source could not be read. What cannot be copied (such
        as an open file) has a new digest each time.
    """
    walk = _Walk(code=code)
    try:
        walk.visit(value)
        while walk.pending:
            walk.visit_code(walk.pending.popleft())
    except Exception:  # an object that is not plain data may raise anything
        return uuid.uuid4().hex[:16]
    return walk.hash.hexdigest()[:16] + walk.how_read


def plain(value: Any, by_name: Callable[[Any], bool] = installed) -> Any:
    """Convert a value to what YAML can hold.

    Args:
        value: Nested mappings and sequences of plain values or the user's objects.
        by_name: Returns whether a name identifies an object.

    Returns:
        The same nesting; objects are given by name, with their digest if the name does not identify them.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v, by_name) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, by_name) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return name_of(value) if by_name(value) else f"{name_of(value)} {digest(value)}"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested description to dotted keys.

    Args:
        config: The description.
        prefix: What precedes its keys.

    Returns:
        Its values by dotted key; lists stay whole.

    Example:
        >>> flat({"steps": 9, "topology": {"name": "ring", "agents": 4}})
        {'steps': 9, 'topology.name': 'ring', 'topology.agents': 4}
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        is_nested = isinstance(value, Mapping) and bool(value)
        found |= flat(value, f"{prefix}{key}.") if is_nested else {f"{prefix}{key}": value}
    return found


class _Walk:
    """Visits an object's parts, as pickling would, and digests them.

    Args:
        code: Whether the code of classes and functions counts.

    Attributes:
        pending: The user's classes and functions whose code is still to be digested.
        how_read: How code was read: empty if there was none, "-source", or the version of Python.
    """

    def __init__(self, *, code: bool) -> None:
        self.code = code
        self.hash = hashlib.sha256()
        self.places: dict[int, int] = {}
        self.kept: list[Any] = []  # kept alive, so that no identity is reused
        self.looked_up: set[tuple[int, str]] = set()
        self.pending: deque[Any] = deque()
        self.how_read = ""

    def visit(self, value: Any) -> None:
        if isinstance(value, types.FunctionType) and hasattr(value, "hooked"):
            value = vars(value)[
                "__wrapped__"
            ]  # torch wraps the step of an optimizer's class when it is first instantiated
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            self.note(source.spell_value(value))
        elif id(value) in self.places:
            self.note(f"the part at {self.places[id(value)]}")
        elif isinstance(value, types.ModuleType) or (importable(value) if not self.code else installed(value)):
            self.note(f"{name_of(value)} {getattr(value, '__name__', '')}")
        else:
            self.places[id(value)] = len(self.places)
            self.kept.append(value)
            self.note(name_of(type(value)))
            if isinstance(value, type | types.FunctionType):
                self.pending.append(value)
            elif _is_wrapper(value):
                self.visit(value.__wrapped__)
            else:
                self.visit_parts(value)

    def visit_parts(self, value: Any) -> None:
        import torch  # here, since reports read folders without it

        if isinstance(own := _fingerprint(value), str):
            self.note(own)
        elif isinstance(value, torch.Tensor) and torch.nn.parameter.is_lazy(value):
            self.note(f"{value.dtype}, of any shape")
        elif isinstance(value, torch.Tensor):
            flat = value.detach().cpu().flatten()
            if flat.stride() != (1,):  # repeated elements
                flat = flat.clone(memory_format=torch.contiguous_format)
            self.note(str((value.dtype, value.shape, value.requires_grad)))
            self.visit(flat.view(torch.uint8).numpy() if flat.numel() else None)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self.note(str((value.dtype, value.shape)))
            self.hash.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        elif type(value) in (list, tuple, dict):
            self.note(str(len(value)))
            for part in chain.from_iterable(value.items()) if isinstance(value, dict) else value:
                self.visit(part)
        elif isinstance(value, PurePath):  # pickled differently by some versions of Python
            self.visit([type(value), value.parts])
        elif isinstance(value, set | frozenset):
            self.visit(sorted(digest(part) for part in value))
        elif isinstance(value, _DECORATED):
            self.visit([getattr(value, name, None) for name in ("fget", "fset", "__func__", "func")])
        else:
            reduce = copyreg.dispatch_table.get(type(value))
            made = value.__reduce_ex__(4) if reduce is None else reduce(value)
            parts = (made,) if isinstance(made, str) else made
            self.visit([list(part) if isinstance(part, Iterator) else part for part in parts])

    def visit_code(self, value: Any) -> None:
        if isinstance(value, type):
            self._visit_class(value)
        else:
            self._visit_function(value)

    def _visit_class(self, kind: type) -> None:
        self.visit([kind.__bases__, type(kind)])
        node = source.class_of(kind)
        namespace = vars(sys.modules.get(kind.__module__, types.ModuleType("")))
        name = kind.__qualname__
        if node is None and namespace.get(name) is kind and source.assignments(namespace.get("__file__"), name):
            self._visit_assigned(name, kind, (), namespace)  # such as a named tuple
            return
        if node is None:
            # Only the attributes that define the class, not those added by Python or a decorator.
            self.visit([name, {key: part for key, part in sorted(vars(kind).items()) if _tells(key, part)}])
            return
        self._read(node)
        for statement in node.body:
            known = source.is_literal(getattr(statement, "value", None))
            for bound in [statement.name] if isinstance(statement, _NAMED) else source.bound_in(statement):
                part = vars(kind).get(bound)
                if isinstance(part, (type, types.FunctionType, *_DECORATED)) or (isinstance(part, _DATA) and not known):
                    self.visit(part)
        changes = source.assignments(namespace.get("__file__"), name)
        for part in (node, *changes):
            self._look_up(source.names_of(part) - {name}, source.attributes_of(part), namespace)
        for statement in changes:
            self._read(statement)

    def _visit_function(self, function: types.FunctionType) -> None:
        code, namespace = function.__code__, function.__globals__
        node = source.function_of(function)
        names, attributes = source.globals_of(code)
        if node is not None:
            self._read(node)
            self._visit_defaults(node, function)
            names |= source.names_of(node)
        elif source.is_installed_file(code.co_filename):  # a package's wrapper of a function
            self.note(code.co_qualname)
            names = frozenset()
        else:
            self.how_read = f"-{sys.implementation.cache_tag}"
            self.visit([_code(code), function.__defaults__, function.__kwdefaults__])
        for name, cell in sorted(zip(code.co_freevars, function.__closure__ or (), strict=True)):
            with suppress(ValueError):  # an empty cell
                self.note(name)
                self._try(cell.cell_contents)
        self._look_up(names, attributes, namespace)
        for found in () if node is None else source.imports_of(node, namespace.get("__package__")):
            if found.namespace is not None:
                self._look_up(attributes if found.name is None else (found.name,), attributes, found.namespace)

    def _visit_defaults(self, node: Any, function: types.FunctionType) -> None:
        """Digest the defaults of parameters whose value is not evident from their source."""
        given = zip(reversed(node.args.defaults), reversed(function.__defaults__ or ()), strict=False)
        named = function.__kwdefaults__ or {}
        keywords = ((e, named.get(a.arg)) for a, e in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
        for expression, value in (*given, *keywords):
            if expression is not None and not source.is_literal(expression):
                self._try(value)

    def _read(self, node: ast.AST) -> None:
        self.note(source.spell(node))
        self.how_read = self.how_read or "-source"

    def _look_up(self, names: Iterable[str], attributes: Iterable[str], namespace: Mapping[str, Any]) -> None:
        """Digest what code looks up in the user's own module."""
        for name in sorted(names):
            if name not in namespace or (id(namespace), name) in self.looked_up:
                continue
            self.looked_up.add((id(namespace), name))
            value = namespace[name]
            self.note(name)
            if isinstance(value, types.ModuleType):
                self.note(value.__name__)
                if not source.is_installed(value.__name__):
                    self._look_up(attributes, attributes, vars(value))
            elif isinstance(value, type) and source.class_of(value) is None and not installed(value):
                self._visit_assigned(name, value, attributes, namespace)
            elif isinstance(value, type | types.FunctionType) or _is_wrapper(value):
                self.visit(value)
            else:
                self._visit_assigned(name, value, attributes, namespace)

    def _visit_assigned(self, name: str, value: Any, attributes: Iterable[str], namespace: Mapping[str, Any]) -> None:
        """Digest the statements that assign a name in a module, and its value if they do not determine it."""
        file, package = namespace.get("__file__"), namespace.get("__package__")
        statements = source.assignments(file, name) or source.assignments(file, "*")
        for statement in statements:
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                self._read(statement)
                used = source.names_of(statement) - {name}
                self._look_up(used, source.attributes_of(statement), namespace)
                continue
            for found in source.imports_of(statement, package):
                if found.bound == name and found.namespace is None:
                    self.note(found.place)
                elif found.bound in (name, "*") and found.namespace is not None:
                    self._look_up([name if found.bound == "*" else found.name or name], attributes, found.namespace)
        computed = not all(source.is_literal(getattr(statement, "value", None)) for statement in statements)
        if not statements or (_is_constant(value) and (computed or not source.is_counter(file, name))):
            self._try(value)

    def _try(self, value: Any) -> None:
        """Visit what code may use; what cannot be read counts by its type."""
        try:
            self.visit(value)
        except Exception:  # an object that is not plain data may raise anything
            self.note(name_of(type(value)))

    def note(self, text: str) -> None:
        self.hash.update(f"{text}\n".encode())


_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DECORATED = (property, classmethod, staticmethod, cached_property)
_DATA = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)


def _tells(name: str, part: Any) -> bool:
    """Return whether a class attribute is the user's own: a method, or data without a dunder name."""
    return isinstance(part, (types.FunctionType, *_DECORATED)) or (
        isinstance(part, _DATA) and not name.startswith("__")
    )


def _fingerprint(value: Any) -> Any:
    """Return what a data set says of its content, if it says anything."""
    known = hasattr(type(value), "fingerprint") or "fingerprint" in getattr(value, "__dict__", ())
    return value.fingerprint if known else None


def _is_wrapper(value: Any) -> bool:
    """Return whether a value is a wrapper of a function, as by functools.cache or a compiler."""
    return hasattr(value, "__qualname__") and callable(getattr(value, "__wrapped__", None))


def _is_constant(value: Any) -> bool:
    """Return whether a value is immutable and plain."""
    if isinstance(value, tuple | frozenset):
        return all(map(_is_constant, value))
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)


def _code(code: types.CodeType) -> list[Any]:
    constants = [_code(c) if isinstance(c, types.CodeType) else c for c in code.co_consts]
    return [code.co_code, code.co_names, constants]
