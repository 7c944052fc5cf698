"""A table on the terminal. Nothing heavy is imported, so that commands that only look are quick."""

from collections.abc import Sequence

from rich.table import Column, Table
from rich.text import Text

from basinet.analysis.statistics.columns import column_widths
from basinet.launch.cli.output import screen, write

__all__ = ["write_table"]


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> None:
    """Print a table, in several parts if it is too wide.

    Args:
        header: Headings of the columns.
        rows: The cells.
        names: How many columns name the rows; these first ones are in all parts.
    """
    columns = [[title, *(row[i] for row in rows)] for i, title in enumerate(header)]
    for widths in column_widths(columns, screen().width, frame=3, names=names):
        table = Table(*(Column(Text(header[i]), width=width, overflow="fold") for i, width in widths.items()))
        for row in rows:
            table.add_row(*(Text(row[i]) for i in widths))
        write(table)
