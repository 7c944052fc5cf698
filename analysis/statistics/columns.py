"""How tables fit a terminal: no column is narrower than its longest word, and what does not fit is a further table."""

from collections.abc import Sequence

from rich.cells import cell_len

__all__ = ["column_widths", "split_columns"]

_LONGEST_WORD = 30  # longer ones, such as paths, are broken


def split_columns(widths: Sequence[int], limit: int) -> list[list[int]]:
    """Share the columns of a table among as many tables as it takes for none to be wider than a limit.

    Args:
        widths: Width of each column; the first one names the rows and is in all tables.
        limit: The width of a table.

    Returns:
        The columns of each table; a single column that is too wide for any has a table of its own.

    Example:
        >>> split_columns([10, 8, 8, 8], 30)
        [[0, 1, 2], [0, 3]]
    """
    tables: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        taken = sum(widths[i] for i in tables[-1])
        if len(tables[-1]) > 1 and taken + widths[column] > limit:
            tables.append([0])
        tables[-1].append(column)
    return tables


def column_widths(columns: Sequence[Sequence[str]], limit: int, *, frame: int) -> list[dict[int, int]]:
    """Lay out a table, or several with the same first column, so that no number and no other word is broken.

    Args:
        columns: The texts of each column, its heading among them.
        limit: The width of the terminal.
        frame: What a column takes beside its text.

    Returns:
        For each table the columns in it and the width of their texts.
    """
    least = [min(_LONGEST_WORD, max((cell_len(word) for text in texts for word in text.split()), default=1))
             for texts in columns]  # fmt: skip
    most = [max((cell_len(line) for text in texts for line in text.split("\n")), default=1) for texts in columns]
    tables = []
    for chosen in split_columns([width + frame for width in least], limit - 1):
        room = limit - 1 - frame * len(chosen)
        # The widest columns give way first, down to their longest words.
        level = max(most[i] for i in chosen)
        while level > 1 and sum(max(least[i], min(level, most[i])) for i in chosen) > room:
            level -= 1
        tables.append({i: max(least[i], min(level, most[i])) for i in chosen})
    return tables
