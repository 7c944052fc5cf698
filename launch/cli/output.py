"""Output of the commands, and their exit statuses."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from basinet.launch.terminal import console, give_up, messages

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "MISTAKE",
    "say",
    "say_some",
    "screen",
    "write",
    "write_json",
]

DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130

_MOST_SENTENCES = 20
"""Most sentences about runs after a command; the report has all."""


def write(*texts: Any, fold: bool = False, end: str = "\n") -> None:
    """Print to standard output, and flush.

    Args:
        *texts: Lines, or what rich can draw.
        fold: Whether lines are folded to the terminal's width.
        end: What follows each line.

    Raises:
        OSError: It is full or closed; nothing is printed from then on.
    """
    try:
        for text in texts:
            if isinstance(text, str) and not fold:
                print(text, end=end)  # noqa: T201
            else:
                screen().print(text, end=end)
        sys.stdout.flush()
    except OSError as error:
        give_up(sys.stdout)
        error.filename = "standard output"
        raise


def screen() -> "Console":
    """Return a rich console on standard output.

    Returns:
        The console.
    """
    # In a file or a pipe a table need not be folded to a terminal's width.
    return console(sys.stdout) if sys.stdout.isatty() else console(sys.stdout, width=120)


def write_json(value: Any) -> None:
    """Print a value as JSON.

    Args:
        value: Nested plain values; anything else is written as text.
    """
    write(json.dumps(value, indent=1, default=str))


def say_some(sentences: Sequence[str], place: str = "the report") -> None:
    """Print the first of some sentences to standard error, and how many more there are.

    Args:
        sentences: The sentences.
        place: Where the others are.
    """
    for sentence in sentences[:_MOST_SENTENCES]:
        say(sentence)
    if len(sentences) > _MOST_SENTENCES:
        say(f"and {len(sentences) - _MOST_SENTENCES:,} more, which are in {place}")


def say(text: str) -> None:
    """Print a line to standard error.

    Args:
        text: A line.
    """
    print(text, file=messages())
