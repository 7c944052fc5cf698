"""Pages made from the code: commands, keys of an experiment, what it can name, studies, and the reference by room."""

import ast
import importlib
import inspect
import io
import json
import os
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import basinet
from basinet.algorithms.compressors import COMPRESSORS
from basinet.analysis.studies import STUDIES
from basinet.launch.cli import main
from basinet.launch.listing import describe_component, describe_keys, first_lines

__all__ = ["generate"]

PACKAGE = Path(basinet.__file__).parent
ROOMS = ("launch", "analysis", "sim", "algorithms", "topologies")

_LINKS = {r"arXiv:(\S*\w)": "https://arxiv.org/abs/", r"doi:(\S*\w)": "https://doi.org/"}


def generate(folder: Path) -> None:
    """Write all generated pages.

    Args:
        folder: Where they go; other pages there are removed.
    """
    pages = {"keys.md": _keys(), "studies.md": _studies(), **_commands(), **_catalogue(), **_reference()}
    for path in set(folder.rglob("*.*")) - {folder / name for name in pages}:
        path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # unchanged pages are not built again
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _basinet(*words: str) -> str:
    """Run a command and return what it prints."""
    said = io.StringIO()
    with patch.dict(os.environ, COLUMNS="100", NO_COLOR="1"), redirect_stdout(said):
        try:
            status: int | str | None = main(words)
        except SystemExit as end:  # of --help
            status = end.code
    assert not status, (words, said.getvalue())
    return said.getvalue()


def _commands() -> dict[str, str]:
    names = re.findall(r"^    ([\w-]+)(?: |$)", _basinet("--help"), flags=re.MULTILINE)
    pages = {f"commands/{name}.md": _command(name) for name in names}
    return {**pages, "commands/all_commands.md": _index("Every command", names)}


def _command(name: str) -> str:
    usage, about, *rest = _basinet(name, "--help").split("\n\n")
    text = "\n\n".join([usage.removeprefix("usage: "), *rest])
    return f"# basinet {name}\n\n{_sentence(about)}\n\n```text\n{text.strip()}\n```\n"


def _sentence(words: str) -> str:
    text = _escaped(" ".join(words.split()))
    return f"{text[:1].upper()}{text[1:]}."


def _keys() -> str:
    rows = [
        (f"`{key}`", _code(known["type"]), _default(known), _escaped(known["about"] or ""))
        for key, known in describe_keys().items()
    ]
    return "# The keys of an experiment\n\n" + _table(("key", "values", "default", "what it is"), rows)


def _catalogue() -> dict[str, str]:
    found = json.loads(_basinet("list", "--json"))
    pages = {
        f"catalogue/{kind}.md": f"# {kind.capitalize()}\n\n" + "\n".join(_component(kind, name) for name in names)
        for kind, names in found.items()
    }
    rows = [(f"`{name}`", _escaped(about)) for name, about in first_lines(COMPRESSORS).items()]
    pages["catalogue/compressors.md"] = (
        "# Compressors\n\nWhat strategies that send few bytes, such as `choco`, take as `compressor`.\n\n"
        f"{_table(('compressor', 'what it does'), rows)}\n"
        "Settings and references are those of {py:obj}`Compression <basinet.algorithms.compression.Compression>`.\n"
    )
    return {**pages, "catalogue/all_kinds.md": _index("What an experiment can name", [*found, "compressors"])}


def _component(kind: str, name: str) -> str:
    known = describe_component(kind, name)
    parts = [f"## {name}", _escaped(known["about"]), *_paragraphs(known["description"])]
    if known["settings"]:
        rows = [
            (f"`{setting}`", _code(about["type"]), _default(about), _escaped(about["about"] or ""))
            for setting, about in known["settings"].items()
        ]
        parts.append(_table(("setting", "values", "default", "what it is"), rows))
    if known["source"]:
        parts.append(f"Source: {_linked(known['source'])}")
    return "\n\n".join(parts) + "\n"


def _studies() -> str:
    """Describe the studies, to be included in another page."""
    parts = []
    for name, study in STUDIES.items():
        settings = [p for p in inspect.signature(study).parameters.values() if p.default is not p.empty]
        about = (inspect.getdoc(study) or "").partition("\n")[0]
        given = ", ".join(f"`{p.name}={json.dumps(p.default)}`" for p in settings)
        parts.append(f"`{name}`\n: {_escaped(about)} Settings: {given}.\n")
    return "\n".join(parts)


def _all_modules() -> Iterator[ModuleType]:
    """Import every module of the package.

    Yields:
        The modules, packages before what is in them.
    """
    for room in ROOMS:
        yield from _modules(f"basinet.{room}")


def _modules(name: str) -> Iterator[ModuleType]:
    module = importlib.import_module(name)
    yield module
    found = sorted(pkgutil.iter_modules(getattr(module, "__path__", [])), key=lambda info: info.ispkg)
    for info in found:
        if not info.name.startswith("__"):
            yield from _modules(f"{name}.{info.name}")


def _home(module: ModuleType, name: str) -> str:
    """Find where the reference describes a public name: where defined, or in the nearest package that exports it."""
    thing = getattr(module, name)
    place = thing.__module__ if _is_made(thing) else ""
    while place:
        if name in getattr(sys.modules[place], "__all__", ()):
            return f"{place}.{name}"
        place = place.rpartition(".")[0]
    return f"{module.__name__}.{name}"


def _is_made(thing: Any) -> bool:
    """Return whether something is a class or a function of the package, and no alias of another's."""
    return (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith("basinet.")


def _reference() -> dict[str, str]:
    """Write a page a folder of the package."""
    folders: dict[str, list[ModuleType]] = {}
    for module in _all_modules():
        if not (hasattr(module, "__path__") or hasattr(module, "__all__")):
            continue  # its package exports what is in it
        folder = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
        folders.setdefault(folder, []).append(module)
    pages = {
        f"reference/{folder.removeprefix('basinet.')}.rst": _heading(folder, "=") + "".join(map(_module, found))
        for folder, found in folders.items()
    }
    homes = [f"* `basinet.{name} <{_home(basinet, name)}>`" for name in basinet.__all__ if name != "__version__"]
    names = [folder.removeprefix("basinet.") for folder in folders]
    index = _heading("The reference by room", "=") + "The headline names, for which ``import basinet`` is enough:\n\n"
    index += "\n".join(homes) + "\n\n.. toctree::\n   :maxdepth: 1\n\n" + "".join(f"   {name}\n" for name in names)
    return {**pages, "reference/all_rooms.rst": index}


def _module(module: ModuleType) -> str:
    name, exported = module.__name__, getattr(module, "__all__", ())
    is_folder = hasattr(module, "__path__")
    parts = ["" if is_folder else _heading(name.removeprefix("basinet."), "-")]
    parts.append(f".. automodule:: {name}\n   :no-members:\n\n")
    if links := [f"`{n} <{home}>`" for n in exported if (home := _home(module, n)) != f"{name}.{n}"]:
        parts.append("From here, too: " + ", ".join(links) + ".\n\n")
    for own in exported:
        if _home(module, own) == f"{name}.{own}":
            parts.append(_directive(module, own))
    return "".join(parts)


def _directive(module: ModuleType, name: str) -> str:
    thing, path = getattr(module, name), f"{module.__name__}.{name}"
    if _is_made(thing) and inspect.isclass(thing):
        kind = "exception" if issubclass(thing, BaseException) else "class"
        return f".. auto{kind}:: {path}\n   :members:\n   :show-inheritance:\n\n"
    if _is_made(thing):
        return f".. autofunction:: {path}\n\n"
    if name in _described_values(module):
        return f".. autodata:: {path}\n   :no-value:\n\n"
    return f".. py:data:: {path}\n\n"  # autodoc would show the documentation of its type


@cache
def _described_values(module: ModuleType) -> set[str]:
    """Find the values of a module that are followed by their documentation."""
    found: set[str] = set()
    for statement, after in pairwise(ast.parse(inspect.getsource(module)).body):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            if isinstance(statement, ast.Assign):
                found |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
            elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                found.add(statement.target.id)
    return found


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _index(title: str, pages: list[str]) -> str:
    return f"# {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n" + "\n".join(pages) + "\n```\n"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _default(known: Mapping[str, Any]) -> str:
    if "needed" in known:
        return "needed"
    return _code(json.dumps(known["default"], ensure_ascii=False)) if "default" in known else ""


def _code(text: str | None) -> str:
    return "`" + text.replace("|", r"\|") + "`" if text else ""


def _paragraphs(text: str | None) -> list[str]:
    return [p if p.startswith("|") else _escaped(p) for p in (text or "").split("\n\n") if p]


def _escaped(text: str) -> str:
    """Keep formulas in plain characters from being taken for Markdown; code stays."""
    text = re.sub(r"`([^`<]+?)(?: <[^>]*>)?`_+", r"\1", text)  # links as torch writes them
    parts = re.split(r"(``.+?``|`[^`]+`|\$\$.+?\$\$)", " ".join(text.split()))
    return "".join(map(_escaped_part, parts))


def _escaped_part(part: str) -> str:
    if part.startswith("$$"):
        return f"\n\n{part}\n\n"
    return part.replace("|", r"\|") if part.startswith("`") else re.sub(r"(?<!\w)_|_(?!\w)|[*|<\\]", r"\\\g<0>", part)


def _linked(source: str) -> str:
    text = _escaped(source)
    for pattern, address in _LINKS.items():
        text = re.sub(pattern, rf"[\g<0>](<{address}\g<1>>)", text)
    return text
