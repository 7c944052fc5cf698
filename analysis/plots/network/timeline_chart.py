"""A Gantt chart: who computes, sends and waits when, in simulated time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from basinet.analysis.drawing.axes import finish, new_axes
from basinet.analysis.drawing.data_checks import require, require_rows
from basinet.analysis.drawing.style import ACCENT, GREY, MAIN
from basinet.topologies.networks.units import show_time

__all__ = ["plot_timeline"]

_LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "compute": ("computes", {"color": MAIN, "height": 0.8}),
    "communication": ("waits for the network", {"color": ACCENT, "height": 0.5, "alpha": 0.8}),
    "idle": ("waits for slower agents", {"color": GREY, "height": 0.5, "alpha": 0.35}),
    "send": ("its messages leave", {"color": "#009E73", "height": 0.16}),
}
"""Names and looks of what agents do, which differ in height, too."""

_UNITS = ((10**9, "s"), (10**6, "ms"), (10**3, "us"), (1, "ns"))


def plot_timeline(
    rows: Sequence[Mapping[str, Any]], *, replica: int = 0, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw what agents do in simulated time: a row for each, with bars for computing and waiting.

    Messages leave beside that, and are drawn as thin lines below.

    Args:
        rows: Rows with `replica`, `agent`, `doing` ("compute", "send", "communication", "idle"), and `start` and `end`
            in nanoseconds, such as `basinet.sim.clock.timeline.Activity` has.
        replica: Number of the replica.
        ax: Where to draw; new axes if None.
        legend: Whether to draw a legend beside the axes.

    Returns:
        The axes.

    Raises:
        NoDataError: If there are no rows of this replica.
    """
    require_rows(rows, "replica", "agent", "doing", "start", "end", otherwise="there is no time to draw")
    chosen = [row for row in rows if row["replica"] == replica]
    require(chosen, f"replica: there are no times of replica {replica}")
    ax = new_axes(ax)
    begin, end = min(row["start"] for row in chosen), max(row["end"] for row in chosen)
    scale, unit = next((one for one in _UNITS if end - begin >= 2 * one[0]), _UNITS[-1])
    origin = begin if begin > 10 * (end - begin) else 0  # the ticks would be long numbers
    for doing, (label, look) in _LOOKS.items():
        mine = [row for row in chosen if row["doing"] == doing]
        if not mine:
            continue
        agents = np.array([row["agent"] for row in mine], dtype=float)
        starts, ends = ((np.array([row[key] for row in mine]) - origin) / scale for key in ("start", "end"))
        below = 0.48 if doing == "send" else 0.0
        edges = {"edgecolor": "white", "linewidth": 0.4} if doing == "compute" else {"linewidth": 0}
        ax.barh(agents + below, ends - starts, left=starts, label=label, **look, **edges)
    count = max(row["agent"] for row in chosen) + 1
    since = f" from {show_time(origin)}" if origin else ""
    ax.set(xlabel=f"simulated time{since} ({unit})", ylabel="agent", ylim=(count - 0.4, -0.6))
    ax.set_xlim((begin - origin) / scale, (end - origin) / scale)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    return finish(ax, legend=legend)
