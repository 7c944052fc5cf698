"""The files of the Long Range Arena (Tay et al., 2021, arXiv:2011.04006)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from basinet.sim.experiment.mistakes import reason_of, shown
from basinet.topologies.policies.matrix_files import decode

__all__ = ["label_of", "read_tsv"]


def read_tsv(file: Path, task: str, columns: Sequence[str], *, header: bool) -> Iterator[tuple[str, list[str]]]:
    """Read a file of values between tabs, in which quotation marks mean nothing.

    Args:
        file: The file.
        task: Name of the task, for error messages.
        columns: The columns that are read.
        header: Whether the first line names the file's columns; if not, they are `columns`.

    Yields:
        Where a line is, in words, and its values of the columns.

    Raises:
        ValueError: If the file cannot be read, lacks a column or has no lines, or if a line is too short.
    """
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            rows = enumerate((line.rstrip("\r\n").split("\t") for line in lines), 1)
            named = next(rows, (0, []))[1] if header else list(columns)
            if missing := [name for name in columns if name not in named]:
                raise ValueError(
                    f"{task}: {file} has no column {missing[0]!r}; its columns are {', '.join(named) or 'none'}"
                )
            places = [named.index(name) for name in columns]
            number = 0
            for number, values in rows:
                if len(values) <= max(places):
                    raise ValueError(
                        f"{task}: {file}, line {number} has {len(values)} values between tabs; allowed are {len(named)}"
                    )
                yield f"{task}: {file}, line {number}", [values[place] for place in places]
    except (OSError, UnicodeError) as error:
        if isinstance(error, UnicodeError):
            decode(file.read_bytes(), file, task)  # names the line
        raise ValueError(f"{task}: {file} cannot be read: {reason_of(error)}") from error
    if number <= header:
        raise ValueError(f"{task}: {file} holds no samples")


def label_of(word: str, place: str, classes: int) -> int:
    """Read a class.

    Args:
        word: What is written, such as "3" or "1.0".
        place: Where, in words.
        classes: Number of classes.

    Returns:
        The class.

    Raises:
        ValueError: If it is none.
    """
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if number not in range(classes):
        raise ValueError(f"{place} has the label {shown(word)}; allowed are 0 … {classes - 1}")
    return int(number)
