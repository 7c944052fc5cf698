"""Figures of accuracy over simulated time, of who leads when, and of times to a target."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from matplotlib.colors import LogNorm

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import legend_below_panels
from basinet.analysis.drawing.panels import finish_panels, grid
from basinet.analysis.drawing.style import GREY, SHADES, contrast, styles
from basinet.analysis.statistics.replica_values import moments, t_interval
from basinet.analysis.studies.topology_time.cycle_times import DESIGNS, CycleTimes
from basinet.analysis.studies.topology_time.leads import leads, median_to
from basinet.analysis.studies.topology_time.timed_trainings import Timed
from basinet.sim.run.records import Row

__all__ = ["draw_curves", "draw_cycle_times", "draw_leads", "draw_targets"]

Conditions = Mapping[tuple[str, str], Sequence[Timed]]
"""Timed trainings by network and law."""


def draw_curves(task: str, timed: Conditions, target: float) -> Drawing:
    """Draw accuracy over simulated time, a panel for each condition.

    Args:
        task: The task.
        timed: Its timed trainings.
        target: The accuracy to be reached.

    Returns:
        The drawing.
    """
    rows = [row for condition, some in timed.items() for one in some for row in _curve(condition, one)]
    figure, axes = grid(len(timed), share_x=False, share_y=True)
    looks = styles(row["topology"] for row in rows)
    for ax, (network, law) in zip(axes, timed, strict=True):
        for topology, look in looks.items():
            own = [
                row
                for row in rows
                if (row["network"], row["law"], row["topology"]) == (network, law, topology) and row["seconds"] > 0
            ]
            x = [row["seconds"] for row in own]
            ax.plot(x, [row["accuracy"] for row in own], label=topology, color=look.color, linestyle=look.line)
            ax.fill_between(
                x, [row["low"] for row in own], [row["high"] for row in own], color=look.color, alpha=0.15, linewidth=0
            )
        ax.axhline(target, color=GREY, linestyle=":", linewidth=1)
        ax.set(xscale="log", title=f"{network}, {law}", xlabel="simulated time (s)", ylabel="test accuracy")
        ax.grid(alpha=0.25)
        label_log_axes(ax)
    finish_panels(figure, axes, share_x=False)
    caption = (
        "Mean over the replicas of the agents' own models, with its 95 % interval; times are means over the replicas,"
        f" of when all agents were there. Dotted: the target, {target:.3f}."
    )
    return Drawing(f"accuracy_{task}", f"Accuracy over simulated time, {task}", caption, figure, rows)


def _curve(condition: tuple[str, str], timed: Timed) -> list[Row]:
    rows: list[Row] = []
    for seconds, values in zip(timed.seconds, timed.accuracy, strict=True):
        known = values[np.isfinite(values)].tolist()
        mean, error, _ = moments(known)
        if mean is None:
            continue
        low, high = (mean, mean) if error is None else t_interval(mean, error, len(known))
        place = {"network": condition[0], "law": condition[1], "topology": timed.topology}
        rows.append({**place, "seconds": float(seconds.mean()), "accuracy": mean, "low": low, "high": high})
    return rows


def draw_leads(task: str, timed: Conditions) -> Drawing:
    """Draw which topology leads when, with a table of the crossings.

    Args:
        task: The task.
        timed: Its timed trainings.

    Returns:
        The drawing.
    """
    rows: list[Row] = [
        {"network": network, "law": law, **lead._asdict()}
        for (network, law), some in timed.items()
        for lead in leads(some)
    ]
    looks = styles(one.topology for one in next(iter(timed.values())))
    labels = {f"{network}, {law}": place for place, (network, law) in enumerate(timed)}
    figure, (ax,) = grid(1, share_x=False, share_y=False, width=8.0, height=0.35 * len(labels) + 0.8)
    handles = {}
    for row in rows:
        place = labels[f"{row['network']}, {row['law']}"]
        handles[row["topology"]] = ax.barh(
            place, row["until"] - row["since"], left=row["since"], height=0.7,
            color=looks[row["topology"]].color, edgecolor="white",
        )  # fmt: skip
    ax.set_yticks(list(labels.values()), list(labels))
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="simulated time (s)")
    label_log_axes(ax)
    legend_below_panels(figure, list(handles.values()), list(handles))
    return Drawing(
        f"leads_{task}",
        f"Which topology leads, {task}",
        "The lead passes to the best of the topologies that are shown to be above the one that leads: the paired 95 %"
        " interval of the difference of accuracies lies above 0. It begins where accuracy is shown to be above that of"
        " the start. A training that is over keeps its accuracy.",
        figure,
        rows,
        table=(
            ("condition", "leads", "from (s)", "to (s)", "accuracy then"),
            [
                [
                    f"{row['network']}, {row['law']}",
                    row["topology"],
                    *(f"{row[key]:.3g}" for key in ("since", "until", "accuracy")),
                ]
                for row in rows
            ],
        ),
    )


def draw_targets(task: str, timed: Conditions, target: float) -> Drawing:
    """Draw the median times to the target.

    Args:
        task: The task.
        timed: Its timed trainings.
        target: The accuracy.

    Returns:
        The drawing.
    """
    rows: list[Row] = [
        {
            "network": network,
            "law": law,
            "topology": one.topology,
            **asdict(median_to(one, target)),
        }
        for (network, law), some in timed.items()
        for one in some
    ]
    topologies = list(dict.fromkeys(row["topology"] for row in rows))
    table = np.array([row["median"] for row in rows]).reshape(len(timed), len(topologies)).T
    best = table.min(axis=0)
    ratios = np.divide(table, best, out=np.full(table.shape, np.nan), where=np.isfinite(table) & (best > 0))
    figure, (ax,) = grid(1, share_x=False, share_y=False, width=9.0, height=4.2)
    shades = SHADES.reversed()
    norm = LogNorm(1, max(2.0, float(np.nanmax(ratios, initial=2.0))))
    image = ax.imshow(ratios, cmap=shades, norm=norm, aspect="auto")
    for (row, column), seconds in np.ndenumerate(table):
        known = math.isfinite(seconds)
        ax.text(
            column, row, f"{seconds:.3g}" if known else "not\nreached", ha="center", va="center", fontsize="small",
            color=contrast(shades(norm(ratios[row, column]))[:3]) if known else GREY,
            fontweight="bold" if seconds == best[column] else "normal",
        )  # fmt: skip
    ax.set_xticks(range(len(timed)), [f"{network}\n{law}" for network, law in timed], rotation=30, ha="right")
    ax.set_yticks(range(len(topologies)), topologies)
    figure.colorbar(image, ax=ax, label="multiple of the fastest")
    return Drawing(
        f"targets_{task}",
        f"Seconds to the target, {task}",
        f"Median over the replicas of the simulated seconds to a mean accuracy of {target:.3f} of the agents' own"
        " models; colours compare the topologies of a column. Bold: the fastest.",
        figure,
        rows,
    )


def draw_cycle_times(found: Sequence[CycleTimes]) -> Drawing:
    """Draw cycle times beside the published ones.

    Args:
        found: Those of each network.

    Returns:
        The drawing.
    """
    figure, axes = grid(len(found), share_x=False, share_y=True, width=2.6, most=5)
    places = np.arange(len(DESIGNS))
    for ax, times in zip(axes, found, strict=True):
        ax.bar(places - 0.2, times.published, 0.4, label="published", color=GREY)
        ax.bar(places + 0.2, times.found, 0.4, label="found here", color="#0072B2")
        ax.set_xticks(places, DESIGNS, rotation=30, ha="right")
        ax.set(title=times.network.replace("_", " "), ylabel="cycle time (ms)")
    finish_panels(figure, axes, share_x=False)
    return Drawing(
        "cycle_times",
        "Cycle times of published networks",
        "Milliseconds per step of a network of 45 Mbit and 25.4 ms of computing, with lines of 1 Gb/s: a parameter"
        " server, diffusion on the minimum spanning tree, and on the directed ring of the highest throughput.",
        figure,
        [
            {"network": times.network, "design": design, "published": published, "found": ms}
            for times in found
            for design, published, ms in zip(DESIGNS, times.published, times.found, strict=True)
        ],
    )
