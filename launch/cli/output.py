"""What the commands print, and the status with which they end."""

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
"""What is said of runs after a command; the report has all."""


def write(*texts: Any, fold: bool = False) -> None:
    """Print on the standard output, and see to it that all of it has got there.

    Args:
        *texts: Lines, or what rich can draw.
        fold: Whether lines are folded to the terminal's width.

    Raises:
        OSError: It is full, or closed; nothing tries again.
    """
    try:
        for text in texts:
            if isinstance(text, str) and not fold:
                print(text)  # noqa: T201
            else:
                screen().print(text)
        sys.stdout.flush()
    except OSError as error:
        give_up(sys.stdout)
        error.filename = "standard output"
        raise


def screen() -> "Console":
    """Make a console of rich's on the standard output.

    Returns:
        The console.
    """
    # In a file or a pipe a table need not be folded to a terminal's width.
    return console(sys.stdout) if sys.stdout.isatty() else console(sys.stdout, width=120)


def write_json(value: Any) -> None:
    """Print a value as JSON.

    Args:
        value: Nested plain values; others are written as text.
    """
    write(json.dumps(value, indent=1, default=str))


def say_some(sentences: Sequence[str]) -> None:
    """Say the first of some sentences, and how many more there are.

    Args:
        sentences: The sentences.
    """
    for sentence in sentences[:_MOST_SENTENCES]:
        say(sentence)
    if len(sentences) > _MOST_SENTENCES:
        say(f"and {len(sentences) - _MOST_SENTENCES:,} more, which are in the report")


def say(text: str) -> None:
    """Say something to the user, beside what is printed.

    Args:
        text: A line.
    """
    print(text, file=messages())
