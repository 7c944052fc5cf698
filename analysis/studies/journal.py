"""The journal of a study: what its parts have found, so that a study which was interrupted goes on from there."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from basinet.sim.claim import versions

__all__ = ["JOURNAL", "journal", "kept", "once", "record"]

T = TypeVar("T")

JOURNAL = "parts.jsonl"
"""File of the journal in the folder of a study: a line of JSON for each part."""

_ROOMS = Path(__file__).parents[2]


class _Journal:
    """Reads a journal and adds to it.

    Args:
        file: The file; a line that a crash has cut short counts for nothing.
        study: What the study is called.
    """

    def __init__(self, file: Path, study: str) -> None:
        self.file = file
        self.study = study
        text = file.read_text("utf-8") if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        self.found = {line["key"]: line["found"] for line in map(json.loads, whole.splitlines())}
        if whole != text:
            file.write_text(whole, "utf-8")

    def key(self, part: str, settings: Mapping[str, Any]) -> str:
        told = json.dumps([self.study, part, settings, versions(), _code()])
        return f"{part} {hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def add(self, key: str, found: Any) -> None:
        line = json.dumps({"key": key, "found": found})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
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
        Nothing: inside, `once` and `record` write to the folder's journal.
    """
    token = _current.set(_Journal(folder / JOURNAL, study))
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
