"""Figures of models of sequences: costs against the length, and accuracies."""

import statistics
from collections.abc import Sequence

from matplotlib.figure import Figure

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.legends import legend_below_panels
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import GREY, ink, styles
from basinet.sim.run.records import Row

__all__ = ["draw_accuracy", "draw_costs"]

_TRIVIAL = ("root operator", "majority class")


def draw_costs(costs: Sequence[Row], models: Sequence[str], explicit: str) -> Figure:
    """Draw the time and memory of a step against the length.

    Args:
        costs: `model`, `length`, `seconds` (None for the explicit one) and `bytes`.
        models: The models, in order.
        explicit: Softmax attention whose memory alone is drawn.

    Returns:
        The figure.
    """
    figure, (left, right) = grid(2, share_x=True, share_y=False)
    looks = styles([*models, explicit])
    handles = {}
    for name in (*models, explicit):
        rows = [row for row in costs if row["model"] == name]
        for ax, key, unit in ((left, "seconds", 1.0), (right, "bytes", 2.0**20)):
            points = [(row["length"], row[key] / unit) for row in rows if row[key] is not None]
            if points:
                style = looks[name]
                (handles[name],) = ax.plot(
                    *zip(*points, strict=True), marker=style.marker, color=style.color, linestyle=style.line
                )
    for ax, key, unit in ((left, "seconds", 1.0), (right, "bytes", 2.0**20)):
        lengths = sorted({row["length"] for row in costs})
        start = min(row[key] for row in costs if row["length"] == lengths[0] and row[key] is not None) / unit
        for power in (1, 2):
            ax.plot(lengths, [start * (n / lengths[0]) ** power for n in lengths], ":", color=GREY, linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="tokens")
        ax.grid(alpha=0.25)
    left.set_ylabel("processor seconds of a step")
    right.set_ylabel("MiB")
    for ax in (left, right):
        label_log_axes(ax)
    legend_below_panels(figure, list(handles.values()), list(handles))
    return figure


def draw_accuracy(trained: Sequence[Row], models: Sequence[str], titles: Sequence[str]) -> Figure:
    """Draw the accuracy of all trainings: by model for each task, and against the length where it varies.

    Args:
        trained: `task`, `length`, `model`, `training` and `accuracy`, and the accuracies of trivial models.
        models: The models, in order.
        titles: The tasks.

    Returns:
        The figure.
    """
    varied = [title for title in titles if len({row["length"] for row in trained if row["task"] == title}) > 1]
    figure, axes = grid(len(titles) + len(varied), share_x=False, share_y=False)
    handles = {}
    marks = {"centralised": ("#0072B2", "o", -0.12), "diffusion": ("#D55E00", "^", 0.12)}
    for ax, title in zip(axes, titles, strict=False):
        rows = [row for row in trained if row["task"] == title]
        usual = next(row["length"] for row in rows if row["training"] == "diffusion")
        for training, (color, marker, shift) in marks.items():
            for place, name in enumerate(models):
                found = [
                    row["accuracy"]
                    for row in rows
                    if (row["model"], row["training"], row["length"]) == (name, training, usual)
                ]
                if found:
                    (handles[training],) = ax.plot([place + shift] * len(found), found, marker, color=color)
                    mean = statistics.mean(found)
                    ax.plot([place + shift - 0.1, place + shift + 0.1], [mean, mean], color=color)
        for name in _TRIVIAL:
            if name in rows[0]:
                ax.axhline(statistics.mean(row[name] for row in rows), color=ink(), linestyle=":", linewidth=1)
        ax.set_xticks(range(len(models)), [name.removesuffix(" attention") for name in models])
        ax.set(title=f"{title}, {usual} tokens", ylabel="test accuracy")
        ax.grid(alpha=0.25, axis="y")
    looks = styles(models)
    for ax, title in zip(axes[len(titles) :], varied, strict=True):
        for name in models:
            points: dict[int, list[float]] = {}
            for row in trained:
                if (row["task"], row["model"], row["training"]) == (title, name, "centralised"):
                    points.setdefault(row["length"], []).append(row["accuracy"])
            if len(points) > 1:
                lengths = sorted(points)
                style = looks[name]
                means = [statistics.mean(points[n]) for n in lengths]
                (handles[name],) = ax.plot(lengths, means, marker=style.marker, color=style.color, linestyle=style.line)
        ax.set(xscale="log", title=f"{title}, centralised", xlabel="tokens", ylabel="test accuracy")
        ax.grid(alpha=0.25)
        label_log_axes(ax)
    legend_below_panels(figure, list(handles.values()), list(handles))
    return figure
