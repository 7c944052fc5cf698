"""The figure of forecasts of time series."""

import logging
from collections.abc import Sequence

from basinet.analysis.drawing.choice import MOST_SERIES, choose
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.plots.forecasts import plot_forecasts
from basinet.analysis.runs.forecasts_of_runs import forecast_rows, forecasts_series
from basinet.analysis.statistics.ranking import leaders
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run

__all__ = ["forecast_drawing"]

_log = logging.getLogger(__name__)


def forecast_drawing(runs: Sequence[Run]) -> Drawing | None:
    """Draw the last window of the test data, and what runs forecast.

    Args:
        runs: The runs; of very many, the best of each strategy are drawn.

    Returns:
        The figure; None if no run forecasts a series, or what it was trained on is not there any more.
    """
    ran = [run for run in runs if forecasts_series(run)]
    if len(ran) > 2 * MOST_SERIES:
        ran = [ran[place] for place in leaders(ran)[:MOST_SERIES]]
    ran = [run for run in ran if _readable(run)]
    choice = choose(ran, forecast_rows)
    rows = choice.rows
    if not rows:
        return None
    figure = choice.draw(choice.runs, plot_forecasts, share_x=False)
    last = next(row["time"] for row in rows if row["kind"] == "observed" and row["step"] == 0)
    caption = (
        f"The last window of the test data, which ends at {last}, what followed it, and what the centroids forecast "
        "after the last step, in the first replica that did not diverge; bands are the range of the agents' forecasts. "
        "Thin grey lines are trivial forecasts."
    )
    if len(ran) > 1:
        caption += choice.note
    return Drawing("forecasts", "Forecasts", caption, figure, rows)


def _readable(run: Run) -> bool:
    """Return whether the forecasts of a run can be computed, for which its data and code have to be there."""
    try:
        forecast_rows([run])
    except (ExperimentError, ImportError, OSError) as error:
        _log.warning("forecasts of %s are not drawn: %s", run.name, error)
        return False
    return True
