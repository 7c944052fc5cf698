"""Mistakes of users: one sentence each, whichever code finds them."""

import difflib
import math
import re
import reprlib
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from basinet.sim.experiment.source import is_installed_file

__all__ = [
    "ExperimentError",
    "complaint",
    "count_of",
    "first_line",
    "in_words",
    "naming",
    "place_of",
    "reason_of",
    "shown",
    "staying",
    "user_code",
]

_LONGEST_LINE = 300
"""Longest part of another library's message that is repeated."""

_MISTAKES = (ValueError, OSError, ImportError, RuntimeError, MemoryError)
"""What built-in components raise for invalid settings; any other exception is a defect."""


_LONGEST_SENTENCE, _LONGEST_WORD = 1000, 200


class _Repr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 60, 60

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to convert very long integers.
        return repr(x) if abs(x) < 10**40 else f"{'-' * (x < 0)}10^{int(abs(x).bit_length() * math.log10(2))}"


_REPR = _Repr()


class ExperimentError(ValueError):
    """A mistake in the experiment or the request: one sentence with the key, what was given and what is allowed.

    Args:
        message: The sentence; very long words, and a very long sentence, are shortened in the middle.
    """

    def __init__(self, message: object = "") -> None:
        text = re.sub(rf"\S{{{_LONGEST_WORD + 1},}}", lambda word: _cut(word[0], _LONGEST_WORD // 2), str(message))
        super().__init__(_cut(text, _LONGEST_SENTENCE))


_MOST_SHOWN = 60  # a module may have hundreds of names


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[1 - most // 2 :]}"


def shown(value: Any) -> str:
    """Format a value given by a user, in short.

    Args:
        value: Any value.

    Returns:
        Its representation, shortened in the middle if it is long.

    Example:
        >>> shown([1, 2.5, "x"]), len(shown("x" * 100_000))
        ("[1, 2.5, 'x']", 60)
    """
    return _cut(_REPR.repr(value), 100)


def count_of(count: int, noun: str) -> str:
    """Write a number of things.

    Args:
        count: How many there are.
        noun: What one of them is called, with a regular plural.

    Returns:
        The number and the noun.

    Example:
        >>> count_of(1, "sample"), count_of(3, "sample")
        ('1 sample', '3 samples')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Suggest the allowed word closest to a wrong one.

    Args:
        word: What was given.
        allowed: The allowed words.

    Returns:
        The end of a sentence: the allowed words, or the closest ones of very many, and a suggestion.

    Example:
        >>> nearest("rign", ["ring", "star"])
        "allowed: ring, star; did you mean 'ring'?"
    """
    allowed = list(allowed)
    close = difflib.get_close_matches(str(word), allowed, n=5, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    if len(allowed) > _MOST_SHOWN:
        near = f"the nearest {', '.join(close)}" if close else "none of which is similar"
        return f"allowed: {len(allowed)} names, {near}{hint}"
    return f"allowed: {', '.join(allowed)}{hint}"


def reason_of(error: BaseException) -> str:
    """Summarise an error in a sentence that names the file already.

    Args:
        error: The exception.

    Returns:
        What is wrong without the name of the file, as far as the system says it; otherwise see `first_line`.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.csv"))
        'No such file or directory'
    """
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)


def first_line(error: BaseException) -> str:
    r"""Summarise an error in one line.

    Args:
        error: The exception; its text may be empty or have many lines.

    Returns:
        The first line of the text, with the second if the first announces it, shortened if very long; the name of the
        error's type if there is no text.

    Example:
        >>> first_line(ValueError("2 mistakes:\n  no width\n  no depth")), first_line(AssertionError())
        ('2 mistakes: no width', 'AssertionError')
    """
    if isinstance(error, ExperimentError):
        return str(error)
    if isinstance(error, KeyError):  # its text is only the key
        return f"KeyError: {error}"
    if isinstance(error, OSError) and error.strerror:  # its text begins with a number
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    try:
        text = str(error)
    except Exception:  # the user's exception may fail to format itself
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    text = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return (text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…") or type(error).__name__


def in_words(error: BaseException) -> str:
    """Summarise what was raised in one line.

    Args:
        error: The exception.

    Returns:
        The name of its type, with the first line of its text if there is any.
    """
    kind, line = type(error).__name__, first_line(error)
    return line if line.startswith(kind) else f"{kind}: {line}"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError without one, such as from a full disk on a write to an open file.

    Args:
        path: The file being written.

    Yields:
        Nothing.

    Raises:
        OSError: The original error, with the name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


_BASINET = Path(__file__).parents[2]


@cache
def _is_users(file: str) -> bool:
    """Return whether a source file is the user's own: not part of Basinet, Python or an installed package."""
    if file.startswith("<"):
        return file.startswith(("<stdin", "<string", "<ipython"))
    path = Path(file)
    compiled = not path.is_absolute() and not path.exists()  # such modules name a file of where they were built
    return not (compiled or is_installed_file(file) or path.is_relative_to(_BASINET))


def place_of(error: BaseException) -> str:
    """Find the innermost line of the user's code in the traceback of an error or its cause.

    Args:
        error: The exception, which has been raised.

    Returns:
        " (file:line)", or "" if there is none.
    """
    found: BaseException | None = error
    seen: list[BaseException] = []  # causes may form a cycle
    while found is not None and found not in seen:
        seen.append(found)
        places = [
            (frame.f_code.co_filename, line)
            for frame, line in traceback.walk_tb(found.__traceback__)
            if not frame.f_globals.get("__name__", "").startswith("basinet.")  # dataclasses write code in "<string>"
        ]
        if isinstance(found, SyntaxError) and found.filename is not None:
            places.append((found.filename, found.lineno or 1))
        for file, line in reversed(places):
            if _is_users(file):
                inside = Path(file).is_relative_to(Path.cwd())
                return f" ({Path(file).relative_to(Path.cwd()) if inside else file}:{line})"
        found = found.__cause__
    return ""


class Blamed(Protocol):
    """A component to which errors are attributed.

    Attributes:
        key: Its key in the experiment.
        name: The name it was given by.
        is_own: Whether the user supplied it.
    """

    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def is_own(self) -> bool: ...


def complaint(component: Blamed, error: Exception, inside: str = "") -> ExperimentError | None:
    """Turn what a component's code raised into a sentence: key, name, what was raised, and where in the user's code.

    Args:
        component: The component.
        error: What was raised.
        inside: The part of the component that raised it.

    Returns:
        The mistake; None if a built-in component raised anything but a ValueError or the like, which is a defect.
    """
    if isinstance(error, ExperimentError):
        return error
    key, line, where = component.key, first_line(error), place_of(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    inside_basinet = bool(frames) and Path(frames[-1].f_code.co_filename).is_relative_to(_BASINET)
    refused = not where and isinstance(error, _MISTAKES) and inside_basinet
    if refused or not component.is_own:
        line = line.replace("num_agents", "topology.agents")  # the key that sets it
        return ExperimentError(f"{key}: {line}{where}") if isinstance(error, _MISTAKES) else None
    name = type(error).__name__
    line = line.removeprefix(name).removeprefix(": ")
    what = f"{name}{f' in its {inside}' if inside else ''}{f': {line}' if line else ''}"
    return ExperimentError(f"{key}: {component.name} raises {what}{where}")


@contextmanager
def staying() -> Iterator[None]:
    """Turn an attempt of user code to exit the process (`sys.exit`) into an error.

    Yields:
        Nothing.

    Raises:
        ExperimentError: The code asked to exit.
    """
    try:
        yield
    except SystemExit as error:
        raise ExperimentError(
            f"your code asks to end the process ({in_words(error)}{place_of(error)}); allowed is code that returns"
        ) from error


class user_code:
    """Turns what a component's code raises within this context into a sentence; see `complaint`.

    Args:
        component: The component whose code runs.
    """

    def __init__(self, component: Blamed) -> None:
        self.component = component

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, ExperimentError):
            mistake = complaint(self.component, error)
            if mistake is not None:
                raise mistake from error
