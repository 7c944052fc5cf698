"""The journal of a study: the results of its parts, from which an interrupted study resumes."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from basinet.sim.run.claim import versions
from basinet.sim.run.files import GrowingFile, plain_file, seal, unseal
from basinet.sim.run.lock import locked

__all__ = ["JOURNAL", "journal", "kept", "once", "record"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

JOURNAL = "parts.jsonl"
"""File of the journal in the folder of a study, one line of JSON per part."""

_ROOMS = Path(__file__).parents[2]


class _Journal:
    """A journal that is read once and appended to.

    Args:
        file: The file. An incomplete last line, left by a crash, is ignored; parts in damaged lines are done again.
        study: Name of the study.
        held: Keeps the folder locked from the first part on.
    """

    def __init__(self, file: Path, study: str, held: ExitStack) -> None:
        self.file = GrowingFile(file)
        self.held = held
        self.study = study
        self.found: dict[str, Any] = {}
        content = file.read_bytes() if plain_file(file).exists() else b""
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            try:
                part = unseal(json.loads(line))
                self.found[part["key"]] = part["found"]
            except (ValueError, LookupError) as error:
                _log.warning("%s: line %d is damaged (%s); its part is done again", file, number, error)

    def key(self, part: str, settings: Mapping[str, Any]) -> str:
        told = json.dumps([self.study, part, settings, versions(), _code()])
        return f"{part} {hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def add(self, key: str, found: Any) -> None:
        line = json.dumps(seal({"key": key, "found": found}))
        folder = self.file.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        self.held.enter_context(locked(folder))
        self.file.append(f"{line}\n".encode())
        self.file.vouch()
        self.found[key] = json.loads(line)["found"]


_current: ContextVar[_Journal | None] = ContextVar("journal", default=None)


@cache
def _code() -> str:
    """Digest the code: results of other versions are not reused."""
    digest = hashlib.sha256()
    for room in ("analysis", "sim", "algorithms", "topologies"):
        for file in sorted((_ROOMS / room).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def journal(folder: Path, study: str) -> Iterator[None]:
    """Keep the results of the parts of a study.

    Args:
        folder: The folder of the study.
        study: Name of the study.

    Yields:
        Nothing; in this context, `once` and `record` write to the folder's journal and lock out other processes.
    """
    with ExitStack() as held:
        token = _current.set(_Journal(folder / JOURNAL, study, held))
        try:
            yield
        finally:
            _current.reset(token)


def once(part: str, find: Callable[[], T], **settings: Any) -> T:
    """Compute a result, unless the journal has it.

    Args:
        part: Name of the part.
        find: Computes its result, in plain JSON values.
        **settings: Plain values that it depends on, besides the code.

    Returns:
        The result, new or from the journal.
    """
    known: list[T] = kept(part, **settings)
    return known[0] if known else record(part, find(), **settings)


def kept(part: str, **settings: Any) -> list[Any]:
    """Look up a result in the journal.

    Args:
        part: Name of the part.
        **settings: As for `once`.

    Returns:
        A list with the result, or an empty one if there is no result or no journal.
    """
    current = _current.get()
    key = current.key(part, settings) if current else ""
    return [current.found[key]] if current and key in current.found else []


def record(part: str, found: T, **settings: Any) -> T:
    """Write a result to the journal, if one is kept.

    Args:
        part: Name of the part.
        found: The result, in plain JSON values.
        **settings: As for `once`.

    Returns:
        The result as it would be read back.
    """
    current = _current.get()
    if current is None:
        return found
    key = current.key(part, settings)
    current.add(key, found)
    again: T = current.found[key]
    return again
