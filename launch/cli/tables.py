"""Tables of results."""

from collections.abc import Sequence

from rich.table import Column, Table
from rich.text import Text

from basinet.analysis.compare.comparison import comparison_of
from basinet.analysis.compare.frame_reading import frame_of
from basinet.analysis.statistics.columns import column_widths
from basinet.analysis.statistics.ranking import MOST_ROWS
from basinet.analysis.statistics.summary import summarize
from basinet.launch.cli.output import screen, write, write_json
from basinet.sim.run.folder import Run
from basinet.sim.run.records import FINISHED

__all__ = ["write_summary", "write_table"]


def write_summary(runs: Sequence[Run], as_json: bool) -> None:
    """Print the finished runs of experiments, summarised over their replicas.

    Args:
        runs: The runs.
        as_json: Whether to print JSON instead of a table.
    """
    if as_json:
        pairs = zip(summarize(runs), runs, strict=True)
        write_json([{**row, "baselines": run.baselines} if run.baselines else row for row, run in pairs])
    elif any(run.status.get("state") in FINISHED for run in runs):
        write(comparison_of(frame_of(runs)).table(most=MOST_ROWS).terminal(screen().width))


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, in several parts if it is too wide.

    Args:
        header: Headings of the columns.
        rows: The cells.
    """
    columns = [[title, *(row[i] for row in rows)] for i, title in enumerate(header)]
    for widths in column_widths(columns, screen().width, frame=3):
        table = Table(*(Column(Text(header[i]), width=width, overflow="fold") for i, width in widths.items()))
        for row in rows:
            table.add_row(*(Text(row[i]) for i in widths))
        write(table)
