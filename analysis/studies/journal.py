"""The journal of a study: what its parts have found, so that a study which was interrupted goes on from there."""

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
"""File of the journal in the folder of a study: a line of JSON for each part."""

_ROOMS = Path(__file__).parents[2]


class _Journal:
    """Reads a journal and adds to it.

    Args:
        file: The file. Behind the last whole line is what a crash has cut short; of a damaged line what it held is
            found again.
        study: What the study is called.
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
    """Digest the code: what another version has found counts for nothing."""
    digest = hashlib.sha256()
    for room in ("analysis", "sim", "algorithms", "topologies"):
        for file in sorted((_ROOMS / room).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def journal(folder: Path, study: str) -> Iterator[None]:
    """Keep what the parts of a study find.

    Args:
        folder: The folder of the study.
        study: What it is called.

    Yields:
        Nothing: inside, `once` and `record` write to the folder's journal, and then keep other processes out.
    """
    with ExitStack() as held:
        token = _current.set(_Journal(folder / JOURNAL, study, held))
        try:
            yield
        finally:
            _current.reset(token)


def once(part: str, find: Callable[[], T], **settings: Any) -> T:
    """Find something out, unless the journal has it.

    Args:
        part: What is found out.
        find: Finds it: plain values that JSON holds.
        **settings: What it depends on besides the code, in plain values.

    Returns:
        What was found, now or before.
    """
    known: list[T] = kept(part, **settings)
    return known[0] if known else record(part, find(), **settings)


def kept(part: str, **settings: Any) -> list[Any]:
    """Look something up in the journal.

    Args:
        part: What was found out.
        **settings: As for `once`.

    Returns:
        What was found, alone in a list that is empty if nothing was, or if no journal is kept.
    """
    current = _current.get()
    key = current.key(part, settings) if current else ""
    return [current.found[key]] if current and key in current.found else []


def record(part: str, found: T, **settings: Any) -> T:
    """Write something to the journal, if one is kept.

    Args:
        part: What was found out.
        found: What was found: plain values that JSON holds.
        **settings: As for `once`.

    Returns:
        The same, as it would be read back.
    """
    current = _current.get()
    if current is None:
        return found
    key = current.key(part, settings)
    current.add(key, found)
    again: T = current.found[key]
    return again
