"""Text files of networks, and tables with named columns, read line by line."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from basinet.topologies.policies.matrix_files import decode, read_bytes

__all__ = ["Source", "number_in"]


@dataclass(frozen=True)
class Source:
    """A text file, and the network that reads it.

    Attributes:
        network: Name of the network, for messages.
        path: The file.
    """

    network: str
    path: str | Path

    def mistake(self, line: int, what: object) -> ValueError:
        """Return the error to raise for a line.

        Args:
            line: Number of the line, from one.
            what: What is wrong.

        Returns:
            The error.
        """
        return ValueError(f"{self.network}: line {line} of {str(self.path)!r}: {what}")

    def text(self) -> str:
        """Return the text, decompressed if the file's name ends in .gz or .bz2."""
        return decode(read_bytes(self.path, self.network), self.path, self.network)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the number and text of each line that is neither blank nor, beginning with #, a comment."""
        for line, text in enumerate(io.StringIO(self.text(), newline=None), 1):
            if text.strip() and not text.startswith("#"):
                yield line, text.strip()

    def rows(self, needed: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
        """Read a table of values separated by commas, whose first line names its columns.

        Args:
            needed: Columns that must be there.
            optional: Columns that may be there.

        Yields:
            The number of a line, and its values by column; empty values of optional columns are left out.

        Raises:
            ValueError: If columns or values are missing, or there are others.
        """
        names: list[str] = []
        for line, text in self.lines():
            values = [value.strip() for value in next(csv.reader([text], skipinitialspace=True))]
            if not names:
                names = values
                if not set(needed) <= set(names) <= {*needed, *optional} or len(set(names)) < len(names):
                    break
                continue
            if len(values) != len(names):
                raise self.mistake(line, f"there are {len(values)} values, but {len(names)} columns")
            row = {name: value for name, value in zip(names, values, strict=True) if value}
            if missing := next((name for name in needed if name not in row), None):
                raise self.mistake(line, f"there is no {missing}")
            yield line, row
        else:
            if names:
                return
        also = f", and may be {', '.join(optional)}" if optional else ""
        given = f"are {', '.join(names)}" if names else "are missing"
        raise ValueError(
            f"{self.network}: the columns of {str(self.path)!r} {given}, but must be {', '.join(needed)}{also}"
        )


def number_in(text: str, low: float, high: float) -> float:
    """Read a number.

    Args:
        text: The number.
        low: Least allowed.
        high: Most allowed.

    Returns:
        The number.

    Raises:
        ValueError: If it is none, or outside.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"got {text!r}, but it must be a number from {low:g} to {high:g}")
    return value
