"""Text that every machine has: the standard library of Python, and the language's manual.

Both differ between versions of Python, and so do the results of what is trained on them.
"""

import platform
import sysconfig
import tokenize
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePath
from types import MappingProxyType

from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import first_line

__all__ = ["edition", "manuals", "standard_library"]

_LEFT_OUT = ("dist-packages", "encodings", "idle_test", "lib-dynload", "pydoc_data", "site-packages", "test", "tests")
"""Folders of packages, of tests and of generated tables."""

_OF_THE_MACHINE = ("_sysconfigdata", "sitecustomize.py", "usercustomize.py")
"""How files begin that say how Python was built or set up."""


@cache
def standard_library() -> Mapping[str, str]:
    """Read the sources of the standard library, without tests and generated tables.

    Returns:
        The text of each module by its file, such as "json/decoder.py", in alphabetical order.

    Raises:
        ValueError: If Python was installed without them, or one cannot be read.

    Example:
        >>> "def loads(" in standard_library()["json/__init__.py"]
        True
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    files = {file.relative_to(root).as_posix(): file for file in root.rglob("*.py")}
    try:
        texts = {name: _read(files[name]) for name in sorted(files) if _counts(PurePath(name))}
    except (OSError, SyntaxError, UnicodeError) as error:
        raise ValueError(f"a module of the standard library cannot be read: {first_line(error)}") from error
    if not texts:
        raise ValueError(f"this Python has no sources of the standard library in {root}, which this text consists of")
    return MappingProxyType(texts)


@cache
def manuals() -> Mapping[str, str]:
    """Read the chapters of the language's manual that `help()` shows.

    Returns:
        The text of each chapter by its topic, such as "while", in alphabetical order.

    Raises:
        ValueError: If Python was installed without them.

    Example:
        >>> "execution" in manuals()["while"].lower()
        True
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("this Python has no module pydoc_data.topics, which this text consists of") from error
    return MappingProxyType(dict(sorted(topics.items())))


def _counts(file: PurePath) -> bool:
    """Return whether a file is the same wherever the same version of Python is installed, and written by people."""
    folders = file.parts[:-1]
    return not file.name.startswith(_OF_THE_MACHINE) and not any(
        folder in _LEFT_OUT or folder.startswith("config-") for folder in folders
    )


def _read(file: Path) -> str:
    """Read a source file in the encoding that it declares."""
    with tokenize.open(file) as text:
        return text.read()


def edition(texts: Mapping[str, str]) -> str:
    """Say which texts these are, since they differ between versions of Python.

    Args:
        texts: Texts by name.

    Returns:
        Their number, the version of Python and a digest of names and contents, in words.

    Example:
        >>> edition({"a.py": "pass"}).startswith("1 texts of Python 3.")
        True
    """
    return f"{len(texts)} texts of Python {platform.python_version()}, digest {digest(dict(texts))[:12]}"
