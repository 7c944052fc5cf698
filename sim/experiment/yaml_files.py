"""YAML as Basinet reads and writes it: values are read literally, and written without loss.

Scalars are those of YAML 1.2: `true` and `false` are the only booleans, `1e-3` is a number, 010 is ten, and `on`,
`yes`, 1:30 and 2024-01-01 are text. A key must be written once.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from basinet.sim.experiment.mistakes import ExperimentError, shown

__all__ = ["dump", "load", "load_written", "read"]

_MOST_LEVELS = 50
_MOST_VALUES = 100_000  # including those repeated by aliases

_KEY = re.compile(r"^(?=[\w.]+:(?:\s|$))", re.MULTILINE)
"""Where a key of the outermost mapping begins, as `dump` writes it: continued lines are indented."""

_UNWRITABLE = re.compile(r"[\0\ud800-\udfff]")

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    "int": (re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"), list("-+0123456789")),
    "float": (
        re.compile(
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        list("-+.0123456789"),
    ),
    "merge": (re.compile(r"<<"), ["<"]),
}


class _Loader(yaml.SafeLoader):
    """Reads a document."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.outside: list[str | None] = []  # anchors of the nodes that contain this one
        self.values: dict[int, int] = {}  # number of values in a node, by its identity

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent) and event.anchor in self.outside:
            raise ConstructorError(None, None, f"'{event.anchor}' contains itself", event.start_mark)
        if len(self.outside) > _MOST_LEVELS:
            problem = f"more than {_MOST_LEVELS} lists and mappings are nested"
            raise ConstructorError(None, None, problem, event.start_mark)
        self.outside.append(event.anchor)
        node = super().compose_node(parent, index)
        self.outside.pop()
        inside = []
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            inside = list(chain.from_iterable(node.value))
        elif isinstance(node, yaml.SequenceNode):
            inside = node.value
        self.values[id(node)] = 1 + sum(self.values[id(part)] for part in inside)
        if self.values[id(node)] > _MOST_VALUES:
            raise ConstructorError(None, None, f"it expands to more than {_MOST_VALUES} values", event.start_mark)
        return node

    def _check_keys(self, node: yaml.MappingNode) -> None:
        """Raise if keys are duplicated or not names."""
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            known = isinstance(key, yaml.ScalarNode) and key.tag not in (f"{_TAG}null", f"{_TAG}bool")
            if not known:
                given = f"got {key.value or 'nothing'}" if isinstance(key, yaml.ScalarNode) else "got a list or mapping"
                raise ConstructorError(None, None, f"{given}, where a key must be a name", key.start_mark)
            name = key.value if key.tag == f"{_TAG}merge" else self.construct_object(key)
            if name in lines:
                problem = f"the key '{key.value}' is written twice, first on line {lines[name]}"
                raise ConstructorError(None, None, problem, key.start_mark)
            lines[name] = key.start_mark.line + 1


_Loader.yaml_implicit_resolvers = {}
_Loader.yaml_constructors = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (None, f"{_TAG}seq", f"{_TAG}map")}


class _QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads a document that `dump` has written, and in which nothing can be wrong, ten times as fast."""


_QuickLoader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
_QuickLoader.yaml_constructors = _Loader.yaml_constructors


class _Dumper(yaml.SafeDumper):
    """Writes a document; text that YAML 1.1 or 1.2 would read as another type is quoted."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        if wrong := _UNWRITABLE.search(text):
            raise ExperimentError(f"{shown(text)}: got the character {wrong[0]!a}, which no file can hold")
        # Other styles would fold Unicode line separators.
        return self.represent_scalar(f"{_TAG}str", text, style=None if text.replace("\n", "").isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


def _constructor(kind: str) -> Callable[[_Loader, yaml.ScalarNode], Any]:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        if not _SCALARS[kind][0].fullmatch(text):
            raise ConstructorError(None, None, f"'{text}' is not a valid {kind}", node.start_mark)
        try:
            return _VALUES[kind](text.lower())
        except ValueError:  # too long for Python
            problem = f"got a number of {len(text)} digits"
            raise ConstructorError(None, None, problem, node.start_mark) from None

    return construct


def _construct_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    """Read text; raise if it contains escaped characters that a name or file cannot hold."""
    text: str = loader.construct_scalar(node)
    if wrong := _UNWRITABLE.search(text):
        raise ConstructorError(None, None, f"got the character {wrong[0]!a}, which no file can hold", node.start_mark)
    return text


_VALUES: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "bool": "true".__eq__,
    "int": lambda text: int(text, {"0x": 16, "0o": 8}.get(text[:2], 10)),
    "float": lambda text: float(text.replace(".inf", "inf").replace(".nan", "nan")),
}
_Loader.add_constructor(f"{_TAG}str", _construct_text)
for _kind, (_pattern, _first) in _SCALARS.items():
    _whole = re.compile(rf"(?:{_pattern.pattern})\Z")
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", _whole, _first)
    _Dumper.add_implicit_resolver(f"{_TAG}{_kind}", _whole, _first)
    if _kind in _VALUES:
        _Loader.add_constructor(f"{_TAG}{_kind}", _constructor(_kind))


def load(text: str) -> Any:
    """Read a document.

    Args:
        text: The document.

    Returns:
        Its value: a mapping, a list, text, a number, a boolean or None.

    Raises:
        ValueError: It is not YAML, a key is duplicated or not a name, or the nesting is too deep.

    Example:
        >>> load("{on: yes, lr: 1e-3, seed: 010}")
        {'on': 'yes', 'lr': 0.001, 'seed': 10}
    """
    return deepcopy(_load(text, _Loader))


@lru_cache(maxsize=4096)
def _load(text: str, kind: type[_Loader | _QuickLoader]) -> Any:  # cached, since files of runs are read several times
    try:
        return kind(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(f"line {mark.line + 1 if mark else 1}: {reason}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def load_written(text: str) -> Any:
    r"""Read a document that `dump` wrote, quickly if much of it has been read before, as in the runs of a grid.

    Args:
        text: The document.

    Returns:
        Its value, the same as that of `load`.

    Raises:
        ValueError: As for `load`.

    Example:
        >>> load_written("task: {name: digits}\nseed: 3\n")
        {'task': {'name': 'digits'}, 'seed': 3}
    """
    first, *parts = _KEY.split(text)
    if not first and "&" not in text:  # anchors reach from part to part
        with suppress(ValueError):
            found = [_load(part, _QuickLoader) for part in parts]
            if all(isinstance(part, dict) for part in found):
                merged = {key: value for part in found for key, value in part.items()}
                if len(merged) == len(parts):
                    return _copied(merged)
    return load(text)


def _copied(value: Any) -> Any:
    """Copy a value without anchors, which is a tree: deepcopy would remember each part."""
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


def read(path: Path) -> Any:
    """Read a UTF-8 file.

    Args:
        path: The file.

    Returns:
        Its value.

    Raises:
        ValueError: The file is not UTF-8, or not YAML that `load` reads.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("it is not a regular file")  # a pipe may have no end
    content = path.read_bytes()
    try:
        return load(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: it is not text in UTF-8 ({error.reason})") from None


def dump(value: Any) -> str:
    """Write a document.

    Args:
        value: Mappings, lists, text, numbers, booleans and None.

    Returns:
        The document; `load`, and any other reader of YAML 1.1 or 1.2, reads it as the same value.

    Raises:
        ExperimentError: A text cannot be written.
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
