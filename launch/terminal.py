"""Robust output: for any encoding of a stream, even one that is full or closed."""

import codecs
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "give_up", "messages", "settle_streams"]

_PLAIN = {"↑": "^", "↓": "v", "→": "->", "±": "+-", "−": "-", "–": "-", "×": "x", "·": "-", "λ": "lambda", "μ": "mu"}
"""Replacements for letters that a terminal may not support; others lose their accents, or become a question mark."""


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = [
        _PLAIN.get(letter) or unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"
        for letter in error.object[error.start : error.end]
    ]
    return "".join(found), error.end


codecs.register_error("basinet.plain", _in_plain_letters)


def settle_streams() -> None:
    """Make standard streams safe to print to: missing ones discard output, unsupported letters are replaced."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="basinet.plain")


def give_up(stream: TextIO) -> None:
    """Discard all further output of a stream, and what is in its buffer.

    Args:
        stream: A stream that is full or closed.
    """
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # it is not a file, or closed
        return


class _Steady:
    """A stream whose write errors are ignored."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether the cursor can be moved; notebooks claim so, but show plain lines at once."""
        return self._stream.isatty() and not type(self._stream).__module__.startswith("ipykernel")

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # full, or closed
            give_up(self._stream)
        except RuntimeError:  # in a signal handler that interrupted another write
            pass
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            give_up(self._stream)


def messages() -> TextIO:
    """Return the stream for progress and messages, whose errors are ignored.

    Returns:
        Standard error; what it cannot write is lost.
    """
    return cast(TextIO, _Steady(sys.stderr))


def console(stream: TextIO, **options: Any) -> "Console":
    """Return a rich console that shows texts verbatim: names hold brackets, colons and numbers.

    Args:
        stream: Where it writes.
        **options: See rich.

    Returns:
        The console.
    """
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich would end the process

    # Colour settings in the environment, as in notebooks and build logs, do not make a stream a terminal.
    options |= {"force_terminal": stream.isatty(), "force_jupyter": False}
    return Plain(file=stream, markup=False, emoji=False, highlight=False, **options)
