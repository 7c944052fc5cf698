"""Layout of tables for a terminal: words are not broken, and columns that do not fit go to a further table."""

from collections.abc import Sequence

from rich.cells import cell_len

__all__ = ["column_widths", "split_columns"]

_LONGEST_WORD = 30  # longer ones, such as paths, are broken


def split_columns(widths: Sequence[int], limit: int, names: int = 1) -> list[list[int]]:
    """Split the columns of a table into as few tables as fit a width.

    Args:
        widths: Width of each column.
        limit: Maximum width of a table.
        names: How many columns name the rows; these first ones are in all tables.

    Returns:
        The columns of each table; a column too wide for any table gets its own.

    Example:
        >>> split_columns([10, 8, 8, 8], 30)
        [[0, 1, 2], [0, 3]]
    """
    tables = [[*range(names)]]
    for column in range(names, len(widths)):
        taken = sum(widths[i] for i in tables[-1])
        if len(tables[-1]) > names and taken + widths[column] > limit:
            tables.append([*range(names)])
        tables[-1].append(column)
    return tables


def column_widths(columns: Sequence[Sequence[str]], limit: int, *, frame: int, names: int = 1) -> list[dict[int, int]]:
    """Lay out one or more tables with the same first columns, so that no number or other word is broken.

    Args:
        columns: The texts of each column, with its heading.
        limit: Width of the terminal.
        frame: Width that a column takes besides its text.
        names: How many columns name the rows.

    Returns:
        For each table, its columns and the width of their texts.
    """
    least = [min(_LONGEST_WORD, max((cell_len(word) for text in texts for word in text.split()), default=1))
             for texts in columns]  # fmt: skip
    most = [max((cell_len(line) for text in texts for line in text.split("\n")), default=1) for texts in columns]
    tables = []
    for chosen in split_columns([width + frame for width in least], limit - 1, names):
        room = limit - 1 - frame * len(chosen)
        # The widest columns give way first, down to their longest words.
        level = max(most[i] for i in chosen)
        while level > 1 and sum(max(least[i], min(level, most[i])) for i in chosen) > room:
            level -= 1
        tables.append({i: max(least[i], min(level, most[i])) for i in chosen})
    return tables
