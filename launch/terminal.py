"""What is printed: whatever the encoding of a stream is, and whether or not it takes what is written."""

import codecs
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "give_up", "messages", "settle_streams"]

_PLAIN = {"↑": "^", "↓": "v", "→": "->", "±": "+-", "−": "-", "–": "-", "×": "x", "·": "-", "λ": "lambda", "μ": "mu"}
"""How letters are written that a terminal may not know; others are taken apart, or become a question mark."""


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
    """Let the process print what it has to say: without a stream to nowhere, and in letters that the stream knows."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="basinet.plain")


def give_up(stream: TextIO) -> None:
    """Write to nowhere from now on, what is still in the stream's buffer as well.

    Args:
        stream: It takes nothing any more.
    """
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # it is no file, or closed
        return


class _Steady:
    """A stream that ends no work where it cannot be written to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether a cursor can be moved, which notebooks say they can; plain lines they show at once."""
        return self._stream.isatty() and not type(self._stream).__module__.startswith("ipykernel")

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # full, or closed
            give_up(self._stream)
        except RuntimeError:  # in a signal handler that has cut into another write
            pass
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            give_up(self._stream)


def messages() -> TextIO:
    """Find the stream for progress and messages, which are no reason to end any work.

    Returns:
        The standard error output; what it does not take is lost.
    """
    return cast(TextIO, _Steady(sys.stderr))


def console(stream: TextIO, **options: Any) -> "Console":
    """Make a console of rich's that shows texts as they are: names hold brackets, colons and numbers.

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

    # What the environment says of colours, as in notebooks and logs of builds, makes no terminal of a stream.
    options |= {"force_terminal": stream.isatty(), "force_jupyter": False}
    return Plain(file=stream, markup=False, emoji=False, highlight=False, **options)
