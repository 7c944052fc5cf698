"""The table of results after a command."""

from collections.abc import Sequence

from basinet.analysis.compare.comparison import comparison_of
from basinet.analysis.compare.frame_reading import frame_of
from basinet.analysis.statistics.ranking import MOST_ROWS
from basinet.analysis.statistics.summary import summarize
from basinet.launch.cli.output import screen, write, write_json
from basinet.sim.run.folder import Run
from basinet.sim.run.records import FINISHED

__all__ = ["write_summary"]


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
