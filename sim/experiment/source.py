"""Users' code as syntax trees, independent of comments, docstrings, layout and the version of Python.

Installed modules are those of Python itself, those in `site-packages` or `dist-packages`, and the packages whose
versions are recorded with the results. All other modules are the user's own and may change at any time.
"""

import ast
import dis
import importlib.util
import linecache
import sys
import sysconfig
import types
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "Imported",
    "assignments",
    "attributes_of",
    "bound_in",
    "class_of",
    "function_of",
    "globals_of",
    "imports_of",
    "is_counter",
    "is_installed",
    "is_installed_file",
    "is_literal",
    "names_of",
    "spell",
    "spell_value",
]

_VERSIONED = frozenset({"basinet", "torch", "numpy", "scipy", "networkx", "ray"})
_PLACES = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}

_BUILT_IN = (None, "built-in", "frozen")
"""Origins of modules without a file."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Definition = _Function | ast.ClassDef


def is_installed(module: str) -> bool:
    """Return whether a module is installed, so that its name identifies it.

    Args:
        module: Its name.

    Returns:
        Whether it is; otherwise, it is the user's own.

    Example:
        >>> is_installed("collections.abc"), is_installed("torch.nn"), is_installed("__main__")
        (True, True, False)
    """
    if module.partition(".")[0] in _VERSIONED:
        return True
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    if file is not None and module != "__main__":
        return is_installed_file(file)
    return getattr(getattr(found, "__spec__", None), "origin", "") in _BUILT_IN


@lru_cache(maxsize=1024)
def is_installed_file(file: str) -> bool:
    """Return whether a file is in a place where packages are installed.

    Args:
        file: Its path.

    Returns:
        Whether it is.
    """
    path = Path(file).resolve()
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or any(map(path.is_relative_to, _PLACES))


class _File:
    """The definitions in a Python file.

    Attributes:
        functions: Functions and lambdas by qualified name, with their byte code.
        classes: The classes.
        assigned: By name, the module-level statements that assign it or change its content; under "*", the star
            imports.
        counters: Names that functions assign, which therefore change at run time.
    """

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.functions: dict[str, list[tuple[types.CodeType, _Function]]] = {}
        self.classes: dict[str, list[ast.ClassDef]] = {}
        self.assigned: dict[str, list[ast.stmt]] = {}
        self.counters = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
        places: dict[tuple[str, int], list[_Definition]] = {}
        for node in ast.walk(tree):
            if isinstance(node, _Definition):
                first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", ()))])
                places.setdefault((getattr(node, "name", "<lambda>"), first), []).append(node)
        for code in _nested(compile(tree, "<source>", "exec", dont_inherit=True)):
            found = places.get((code.co_name, code.co_firstlineno), [])
            if len(found) > 1:  # several lambdas on one line
                found = sorted((n for n in found if _holds(n, code)), key=_extent)
            for node in found[:1]:
                if isinstance(node, ast.ClassDef):
                    self.classes.setdefault(code.co_qualname, []).append(node)
                else:
                    self.functions.setdefault(code.co_qualname, []).append((_bare(code), node))
        self._collect(tree.body)

    def _collect(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                names = [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
            elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Delete):
                names = [*bound_in(statement), *_changed_in(statement)]
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                names = _root(statement.value.func)  # TABLE.update(…)
            else:
                names = []
                if not isinstance(statement, _Definition):
                    for block in ("body", "orelse", "finalbody"):
                        self._collect(getattr(statement, block, ()))
                    for handler in getattr(statement, "handlers", ()):
                        self._collect(handler.body)
            for name in names:
                self.assigned.setdefault(name, []).append(statement)


def bound_in(statement: ast.stmt) -> list[str]:
    """List the names that an assignment binds.

    Args:
        statement: The assignment.

    Returns:
        The names.
    """
    return [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _changed_in(statement: ast.stmt) -> list[str]:
    """List the names whose content a statement changes: TABLE["a"] = 2, Base.gain = 3."""
    parts = [n for n in ast.walk(statement) if isinstance(n, ast.Subscript | ast.Attribute)]
    return [name for part in parts if isinstance(part.ctx, ast.Store | ast.Del) for name in _root(part)]


def _root(node: ast.expr) -> list[str]:
    """Return the name at the root of an expression such as a.b["c"].d."""
    whole = node
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return [node.id] if isinstance(node, ast.Name) and node is not whole else []


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _bare(code: types.CodeType) -> types.CodeType:
    """Remove line information from byte code, since it changes with the rest of the file."""
    constants = tuple(_bare(c) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    return code.replace(co_consts=constants, co_firstlineno=1, co_linetable=b"", co_filename="")


def _body(node: _Definition) -> ast.AST:
    return node.body if isinstance(node, ast.Lambda) else node


def _extent(node: _Definition) -> tuple[int, int]:
    body: Any = _body(node)
    return body.end_lineno - body.lineno, body.end_col_offset - body.col_offset


def _holds(node: _Definition, code: types.CodeType) -> bool:
    """Return whether all instructions come from within a definition."""
    body: Any = _body(node)
    start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    return all(
        start <= (line, column) and (end_line, end_column) <= end
        for line, end_line, column, end_column in code.co_positions()
        if line is not None and end_line is not None and column is not None and end_column
    )


@lru_cache(maxsize=64)
def _parse(text: str) -> _File | None:
    try:
        return _File(text)
    except (SyntaxError, ValueError):
        return None


def _read(file: str | None) -> _File | None:
    """Parse a file as it is now, or a notebook cell."""
    if file is None:
        return None
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    return _parse("".join(lines)) if lines else None


def function_of(function: types.FunctionType) -> _Function | None:
    """Find the definition of a function.

    Args:
        function: The function.

    Returns:
        Its syntax tree; None if the source cannot be read or no longer matches the loaded function.
    """
    code = function.__code__
    file = _read(code.co_filename)
    bare = _bare(code)
    found = [] if file is None else file.functions.get(code.co_qualname, [])
    return next((node for known, node in found if known == bare), None)


def class_of(kind: type) -> ast.ClassDef | None:
    """Find the definition of a class.

    Args:
        kind: The class.

    Returns:
        Its syntax tree, or None, as for `function_of`.
    """
    own = [
        part
        for name, part in vars(kind).items()
        if isinstance(part, types.FunctionType) and part.__code__.co_qualname == f"{kind.__qualname__}.{name}"
    ]
    module = sys.modules.get(kind.__module__)
    file = _read(own[0].__code__.co_filename if own else getattr(module, "__file__", None))
    methods = [function_of(part) for part in own]
    for node in [] if file is None else file.classes.get(kind.__qualname__, []):
        inside = set(ast.walk(node))
        if all(method in inside for method in methods):
            return node
    return None


def assignments(file: str | None, name: str) -> list[ast.stmt]:
    """Find the statements of a module that assign a name or change its content.

    Args:
        file: The module's file.
        name: The name; "*" for the star imports.

    Returns:
        The statements; none if the source cannot be read.
    """
    found = _read(file)
    return [] if found is None else found.assigned.get(name, [])


def is_counter(file: str | None, name: str) -> bool:
    """Return whether a function of a module assigns a name of the module.

    Args:
        file: The module's file.
        name: The name.

    Returns:
        Whether one does, so that the value is not constant.
    """
    found = _read(file)
    return found is not None and name in found.counters


def is_literal(node: ast.AST | None) -> bool:
    """Return whether an expression is a literal.

    Args:
        node: The expression.

    Returns:
        Whether it does.
    """
    try:
        ast.literal_eval(node)  # type: ignore[arg-type]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


@lru_cache(maxsize=4096)
def globals_of(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Find the names that byte code looks up.

    Args:
        code: The byte code.

    Returns:
        The names that it looks up in its module, and all names, including attributes.
    """
    names: set[str] = set()
    others: set[str] = set()
    for part in _nested(code):
        others.update(part.co_names)
        names.update(i.argval for i in dis.get_instructions(part) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    return frozenset(names), frozenset(others)


def names_of(node: ast.AST) -> set[str]:
    """Find the names that a definition uses when it is executed: decorators, defaults and bases, not function bodies.

    Args:
        node: A statement or an expression.

    Returns:
        The names.
    """
    if isinstance(node, ast.Name):
        return {node.id}
    parts: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, _Function):
        defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
        parts = [*getattr(node, "decorator_list", []), *defaults]
    return set().union(*map(names_of, parts))


def attributes_of(node: ast.AST) -> set[str]:
    """Find the attribute names in a syntax tree.

    Args:
        node: A statement or an expression.

    Returns:
        Their names.
    """
    return {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


class Imported(NamedTuple):
    """An object that is imported.

    Attributes:
        bound: Its name in the importing module; "*" for everything.
        place: The module it comes from.
        name: Its name there; None for the module itself.
        namespace: The contents of the module, if it is the user's own.
    """

    bound: str
    place: str
    name: str | None
    namespace: Mapping[str, Any] | None


def imports_of(node: ast.AST, package: str | None) -> Iterator[Imported]:
    """Follow the imports in a piece of code.

    Args:
        node: A statement, or a function whose body imports.
        package: The package that relative imports start from.

    Yields:
        The imported objects.
    """
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            for alias in part.names:
                bound = alias.asname or alias.name.partition(".")[0]
                yield Imported(bound, alias.name, None, _users(alias.name, package))
        elif isinstance(part, ast.ImportFrom):
            module = "." * part.level + (part.module or "")
            for alias in part.names:
                bound, name, found = alias.asname or alias.name, alias.name, _users(module, package)
                if found is not None and name not in found and name != "*":  # a submodule
                    yield Imported(bound, name, None, _users(f"{found['__name__']}.{name}", None))
                else:
                    yield Imported(bound, f"{module}:{name}", name, found)


def _users(name: str, package: str | None) -> Mapping[str, Any] | None:
    """Import a module and return its contents, if it is the user's own."""
    try:
        name = importlib.util.resolve_name(name, package)
        if name not in sys.modules:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin in _BUILT_IN or is_installed_file(spec.origin):
                return None
        return None if is_installed(name) else vars(importlib.import_module(name))
    except Exception:  # the user's module may raise anything on import
        return None


@lru_cache(maxsize=4096)
def spell(node: ast.AST) -> str:
    """Write a syntax tree in the same way under all versions of Python.

    Args:
        node: The tree.

    Returns:
        Its nodes and values, without positions, docstrings and empty fields.

    Example:
        >>> spell(ast.parse("x = 1  # one").body[0])
        "Assign(targets=[Name(id='x', ctx=Store())], value=Constant(value=1))"
    """
    return _spell(node)


def spell_value(value: Any) -> str:
    """Write a plain value in the same way under all versions of Python, which know different sets of characters.

    Args:
        value: The value.

    Returns:
        Its `repr`, with characters escaped that some versions do not know.

    Example:
        >>> spell_value("é")
        "'é'"
    """
    text = repr(value)
    if text.isascii():
        return text
    known = unicodedata.ucd_3_2_0  # available in all versions
    return "".join(c if known.category(c) != "Cn" else c.encode("unicode_escape").decode() for c in text)


def _spell(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_spell, value))}]"
    if not isinstance(value, ast.AST):
        return spell_value(value)
    fields = []
    for name, part in ast.iter_fields(value):
        if name == "body" and isinstance(value, _Definition) and isinstance(part, list):
            first = part[0].value if isinstance(part[0], ast.Expr) else None
            part = part[1:] if isinstance(first, ast.Constant) and isinstance(first.value, str) else part
        if isinstance(value, ast.JoinedStr):  # some versions end format specs with an empty text
            part = [piece for piece in part if not (isinstance(piece, ast.Constant) and piece.value == "")]
        if part is not None and part != [] and name not in ("kind", "type_comment"):
            fields.append(f"{name}={_spell(part)}")
    return f"{type(value).__name__}({', '.join(fields)})"
