"""Figures of pre-training and transfer: scores, curves and flatness."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.figure import Figure

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import legend_below_panels, outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import axis_label, baseline_style, ink, styles
from basinet.analysis.statistics.replica_values import all_finals
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["transfer_drawings"]


def transfer_drawings(
    rated: Mapping[str, Run],
    flat: Sequence[Row],
    trivial: Mapping[str, float],
    metric: str,
    flatness: Sequence[str],
) -> list[Drawing]:
    """Draw what pre-training is worth.

    Args:
        rated: Fine-tunings by where they start.
        flat: What each replica of a pre-training ends with; see `flatness`.
        trivial: What predictors without a network score, by name.
        metric: The score.
        flatness: Columns of `flat` that tell how flat it is.

    Returns:
        Three drawings.
    """
    ends = [
        {"start": label, "replica": replica, "score": score, **trivial}
        for label, run in rated.items()
        for replica, score in enumerate(all_finals(run, metric))
    ]
    curves = _curves(rated, metric)
    name = axis_label(metric, [*rated.values()])
    known = "Without a network: " + ", ".join(f"{key} {value:.3g}" for key, value in trivial.items()) + "."
    return [
        Drawing(
            "scores",
            "Scores by where fine-tuning starts",
            f"Each circle is a replica, and bars are their means. {known}",
            _draw_ends(ends, trivial, name),
            ends,
        ),
        Drawing(
            "curves",
            "Scores over steps of fine-tuning",
            f"Mean over the replicas. {known}",
            _draw_curves(curves, name),
            curves,
        ),
        Drawing(
            "flatness",
            "Scores after fine-tuning against flatness of pre-training",
            "Each mark is a replica: the largest eigenvalue and the trace of the Hessian of the loss of pre-training,"
            " on a subset of its data, at the centroid where fine-tuning starts.",
            _draw_flatness(flat, flatness, name),
            [*flat],
        ),
    ]


def _draw_ends(rows: Sequence[Row], trivial: Mapping[str, float], name: str) -> Figure:
    starts = list(dict.fromkeys(row["start"] for row in rows))
    figure, (ax,) = grid(1, share_x=False, share_y=False, height=0.3 * len(starts) + 1)
    for place, start in enumerate(starts):
        scores = [row["score"] for row in rows if row["start"] == start]
        ax.plot(scores, [place] * len(scores), "o", fillstyle="none", color=ink())
        ax.plot([fmean(scores)], [place], "|", markersize=14, color=ink())
    for place, (key, value) in enumerate(trivial.items()):
        ax.axvline(value, label=key, **baseline_style(place))
    ax.set_yticks(range(len(starts)), starts)
    ax.invert_yaxis()
    ax.set_xlabel(name)
    outside_legend(ax, below=True)
    return figure


def _curves(rated: Mapping[str, Run], metric: str) -> list[Row]:
    rows = []
    for label, run in rated.items():
        at: dict[int, list[float]] = {}
        for row in run.metrics:
            if metric in row and "agent" not in row:
                at.setdefault(row["step"], []).append(row[metric])
        rows += [{"start": label, "step": step, "score": fmean(scores)} for step, scores in at.items()]
    return rows


def _draw_curves(rows: Sequence[Row], name: str) -> Figure:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for label, look in styles(row["start"] for row in rows).items():
        own = [row for row in rows if row["start"] == label]
        ax.plot(
            [row["step"] for row in own], [row["score"] for row in own],
            label=label, color=look.color, linestyle=look.line,
        )  # fmt: skip
    ax.set_xlabel("step")
    ax.set_ylabel(name)
    outside_legend(ax)
    return figure


def _draw_flatness(rows: Sequence[Row], measures: Sequence[str], name: str) -> Figure:
    figure, axes = grid(len(measures), share_x=False, share_y=True)
    for ax, measure in zip(axes, measures, strict=True):
        for label, look in styles(row["strategy"] for row in rows).items():
            own = [row for row in rows if row["strategy"] == label and (row[measure] or 0) > 0]
            ax.plot(
                [row[measure] for row in own], [row["score"] for row in own],
                label=label, color=look.color, linestyle="", marker=look.marker,
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_xlabel(axis_label(measure))
        label_log_axes(ax)
    axes[0].set_ylabel(name)
    legend_below_panels(figure, *axes[0].get_legend_handles_labels())
    return figure
