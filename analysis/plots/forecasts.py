"""Forecasts of time series."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from basinet.analysis.drawing.axes import finish, new_axes, whole_numbers
from basinet.analysis.drawing.data_checks import NoDataError, require_runs
from basinet.analysis.drawing.legends import companion
from basinet.analysis.drawing.style import GREY, baseline_style, ink, styles
from basinet.analysis.runs.forecasts_of_runs import OBSERVED, forecast_rows
from basinet.sim.run.folder import Run

__all__ = ["plot_forecasts"]


def plot_forecasts(
    runs: Sequence[Run], *, window: int = -1, channel: str | None = None, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw a window of the test data, what followed it, and what the centroid of each run forecast after the last step.

    A band is the range of the agents' forecasts, and thin grey lines are trivial ones. Drawn is the first replica that
    did not diverge.

    Args:
        runs: Finished runs of the task `forecast`, of the same series, inputs and horizon.
        window: Index of the window among those of the test data; negative ones count from the end.
        channel: Name of the channel; by default the first.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes, in units of the series; of the window only the end is drawn, at most twice as long as the forecast.

    Raises:
        NoDataError: If no run forecasts a series, or runs forecast different ones.
    """
    require_runs(runs)
    rows = forecast_rows(runs, window=window, channel=channel)
    if not rows:
        raise NoDataError("no run has finished the task forecast, with a replica that did not diverge")
    observed = {row["step"]: row["value"] for row in rows if row["kind"] == "observed"}
    if len(observed) < sum(row["kind"] == "observed" for row in rows):
        raise NoDataError("the runs forecast different windows; draw those with the same series, inputs and horizon")
    ax = new_axes(ax)
    horizon = max(observed)
    steps = [step for step in observed if step > -2 * horizon]
    ax.plot(steps, [observed[step] for step in steps], color=ink(), linewidth=1.6, label=OBSERVED)
    for place, label in enumerate(dict.fromkeys(row["label"] for row in rows if row["kind"] == "baseline")):
        chosen = [row for row in rows if row["label"] == label]
        places = [row["step"] for row in chosen]
        ax.plot(places, [row["value"] for row in chosen], label=label, **baseline_style(place))
    forecasts = [row for row in rows if row["kind"] == "forecast"]
    for index, (label, style) in enumerate(styles(row["label"] for row in forecasts).items()):
        chosen = [row for row in forecasts if row["label"] == label]
        places = [row["step"] for row in chosen]
        every = max(1, len(chosen) // 6)
        ax.plot(
            places,
            [row["value"] for row in chosen],
            label=label,
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markersize=4,
            markevery=(index % every, every),
        )
        if "low" in chosen[0]:
            ends = [row["low"] for row in chosen], [row["high"] for row in chosen]
            ax.fill_between(places, *ends, color=style.color, alpha=0.3, linewidth=0, label=companion(label))
    if any("low" in row for row in forecasts):
        ax.fill_between([], [], color=GREY, alpha=0.3, linewidth=0, label="range of the agents around their centroid")
    ax.axvline(0.5, color=GREY, linewidth=0.8)
    ax.xaxis.set_major_locator(whole_numbers())
    first = rows[0]
    ax.set_xlabel(f"time step, 1 = first forecast\n(test window {first['window']} of 0 to {first['windows'] - 1})")
    several = f"\n(one of {first['channels']} series)" if first["channels"] > 1 else ""
    ax.set_ylabel(f"{first['channel']}{several}")
    ax.grid(alpha=0.25)
    return finish(ax, legend=legend)
