"""The figures of a report: all those for which the runs have measurements."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module

from matplotlib.figure import Figure

from basinet.analysis.drawing.axes import choose_scale
from basinet.analysis.drawing.choice import MOST_PANELS, MOST_SERIES, WIDE, Choice, choose, choose_together
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import finish_panels, grid
from basinet.analysis.drawing.style import axis_label, same_styles
from basinet.analysis.plots.agents import plot_agents
from basinet.analysis.plots.curves import baselines, plot_consensus, plot_curves
from basinet.analysis.plots.density import plot_spectra, spectra_rows
from basinet.analysis.plots.replica_marks import plot_tail_index
from basinet.analysis.plots.scatter import iso_lines, iso_rows, plot_iso_accuracy, plot_scatter
from basinet.analysis.plots.survival_curves import plot_survival, survival_rows
from basinet.analysis.plots.sweep import plot_sweep, sweep_rows, swept
from basinet.analysis.report.captions import capital, coincidences, extremes, replicas_a_run, short_name
from basinet.analysis.report.landscapes import landscape_drawings
from basinet.analysis.report.networks import partition_drawing, topology_drawing
from basinet.analysis.statistics.quantities import main_metric, metric_quantities, own_quantities
from basinet.analysis.statistics.ranking import leaders
from basinet.analysis.statistics.replica_values import agent_rows, curve_rows, replica_rows
from basinet.analysis.statistics.run_labels import describe, labels, names
from basinet.analysis.statistics.survival import escape_times, kaplan_meier
from basinet.sim.run.folder import Run

__all__ = ["Drawing", "gallery"]

_OF_TASKS = (
    ("series", "forecast_drawing", "forecast"),
    ("vision.restored", "restoration_drawing", "super_resolution"),
    ("vision.recognised", "phase_drawings", "video_language"),
    ("vision.reconstructed", "pretraining_drawings", "quality_pretraining"),
    (
        "vision.rated",
        "rating_drawing",
        *("image_quality", "image_aesthetics", "video_quality", "pretrained_ensemble"),
    ),
    ("vision.extractors", "extractor_drawing", "pretrained_ensemble"),
)
"""Modules that need torch, and are imported for runs of some tasks: what draws them, and the tasks."""

_SWEPT = ("train_loss", "excess_risk", "hessian_trace", "hessian_top_eigenvalue", "consensus_distance")


def gallery(runs: Sequence[Run]) -> list[Drawing]:
    """Draw every figure for which there are measurements.

    For an experiment with many conditions, figures show the best run of each strategy; if many values of a numeric
    setting were tried, there are figures of the metrics against it.

    Args:
        runs: The runs.

    Returns:
        The figures, in the order of the report.
    """
    with same_styles(runs):
        return _drawings(runs)


def _drawings(runs: Sequence[Run]) -> list[Drawing]:
    measured = {name for run in runs for row in run.metrics if "agent" not in row for name in row}
    quality = main_metric(runs)
    flatness = "hessian_trace" if "hessian_trace" in measured else "hessian_top_eigenvalue"
    drawings = [
        *_sweeps(runs, quality),
        _scatter(runs, "hessian_trace", quality, "flatness_accuracy"),
        _scatter(runs, "hessian_top_eigenvalue", quality, "flatness_accuracy_eigenvalue"),
        _scatter(runs, flatness, "excess_risk", "risk_flatness"),
        *(_scatter(runs, name, quality, f"{name}_accuracy") for name in own_quantities(runs)),
        _iso_accuracy(runs, flatness, quality),
        _curves(runs, "train_loss"),
        *(_curves(runs, name) for name in dict.fromkeys((quality, *metric_quantities(runs)))),
        _curves(runs, quality, "simulated_time"),
        *(_curves(runs, name) for name in ("hessian_trace", "hessian_top_eigenvalue") if _is_curve(runs, name)),
        _consensus(runs),
        _spectra(runs),
        _agents(runs, flatness),
        _tail_index(runs),
        _survival(runs),
        _trajectories(runs),
        *_of_tasks(runs),
        topology_drawing(runs),
        partition_drawing(runs),
    ]
    drawn = [drawing for drawing in [*drawings, *landscape_drawings(runs)] if drawing is not None]
    notes = map(coincidences, drawn)
    return [
        replace(drawing, caption=drawing.caption + note) if note else drawing
        for drawing, note in zip(drawn, notes, strict=True)
    ]


def _sweeps(runs: Sequence[Run], quality: str) -> list[Drawing]:
    """Draw the metrics against the numeric setting with many values."""
    key = swept(runs)
    if key is None:
        return []
    best = leaders(runs)
    kept = list(dict.fromkeys(names(runs)[place][0] for place in best))[:MOST_SERIES]
    drawings = []
    for metric in (quality, *_SWEPT):
        rows = [row for row in sweep_rows(runs, metric, key) if row["strategy"] in kept]
        rows = [row for row in rows if row["mean"] > 0 or metric != "consensus_distance"]
        if not rows:
            continue
        conditions = list(dict.fromkeys(row["condition"] for row in rows))
        shown = [row for row in rows if row["condition"] in conditions[:MOST_PANELS]]
        scale = choose_scale(metric, [row["mean"] for row in shown])
        width = WIDE if len(conditions) == 1 else 4.0
        count = min(len(conditions), MOST_PANELS)
        figure, axes = grid(count, share_x=False, share_y=True, width=width, height=3.6)
        for ax, condition in zip(axes, conditions, strict=False):
            mine = [row for row in shown if row["condition"] == condition]
            plot_sweep(mine, metric, key, ax=ax, legend=len(axes) == 1, yscale=scale)
            ax.set_title(condition, fontsize="medium")
        if len(axes) > 1:
            finish_panels(figure, axes, share_x=False)
        caption = (
            f"{axis_label(metric)} at the centroid after the last step against {key}: mean over the replicas that did "
            f"not diverge, bars of one standard error. Points where all replicas diverged are missing."
        )
        if len(kept) < len(best):
            caption += f" Of {len(best)} strategies the best {len(kept)} are shown."
        if len(conditions) > len(axes):
            caption += f" The first {len(axes)} of {len(conditions)} conditions are shown."
        title = capital(f"{short_name(metric)} against {key}")
        finding = extremes(shown, metric, "mean", lambda row: f"{row['strategy']} at {key}={row[key]:g}")
        drawings.append(Drawing(f"sweep_{metric}", title, capital(caption), figure, shown, finding))
    return drawings


def _scatter(runs: Sequence[Run], x: str, y: str, name: str) -> Drawing | None:
    choice = choose(runs, lambda chosen: replica_rows(chosen, x, y))
    rows = choice.rows
    if not rows:
        return None
    counts = [sum(row["label"] == label for row in rows) for label in {row["label"] for row in rows}]
    caption = (
        f"{axis_label(y)} against {axis_label(x)}, both at the centroid after the last step. Small markers: "
        f"one replica each ({replicas_a_run(counts)}); large markers with bars: mean ± standard error over the "
        "replicas."
    )
    figure = choice.draw(
        choice.runs,
        partial(plot_scatter, x=x, y=y),
        xscale=choose_scale(x, [row[x] for row in rows]),
        yscale=choose_scale(y, [row[y] for row in rows]),
    )
    title = f"{short_name(y)} against {short_name(x)}"
    caption = capital(caption) + choice.notes
    finding = f"{extremes(rows, y, y)} {extremes(rows, x, x)}"
    return Drawing(name, capital(title), caption, figure, rows, finding)


def _is_curve(runs: Sequence[Run], metric: str) -> bool:
    """Return whether a metric was measured at more than one step."""
    return any(len({row["step"] for row in run.metrics if metric in row and "agent" not in row}) > 1 for run in runs)


def _iso_accuracy(runs: Sequence[Run], flatness: str, quality: str) -> Drawing | None:
    rows = iso_rows(runs, flatness, quality)
    fit = iso_lines(rows, flatness, quality)
    if fit is None:
        return None
    figure, (ax,) = grid(1, share_x=False, share_y=False, width=WIDE, height=4.0)
    told = len(runs) <= 2 * MOST_SERIES
    few = len(leaders(runs)) <= MOST_SERIES
    plot_iso_accuracy(runs, flatness=flatness, accuracy=quality, ax=ax, legend=told or few, by_strategy=not told)
    _, b, c = fit.coefficients
    caption = (
        f"Excess risk against {short_name(flatness)} after the last step, and lines of equal {short_name(quality)}: "
        f"{b:+.2g} per unit of log flatness and {c:+.2g} per unit of log risk, by least squares over {fit.count} "
        f"replicas of all runs, R² = {fit.explained:.2f}."
    )
    caption += "" if told else " Marks are replicas; there are too many runs to name each."
    finding = extremes(rows, quality, quality)
    return Drawing("iso_accuracy", "Flatness and optimization together", caption, figure, rows, finding)


def _spectra(runs: Sequence[Run]) -> Drawing | None:
    choice = choose_together(runs, spectra_rows)
    rows = choice.rows
    if not rows or len({row["label"] for row in rows}) < 2:
        return None
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    plot_spectra(choice.runs, ax=ax)
    caption = "Hessian eigenvalues at the centroids after the last step, in common bins; mean over the replicas."
    caption += choice.notes
    return Drawing("spectra", "Spectra of the Hessian by run", caption, figure, rows)


def _agents(runs: Sequence[Run], metric: str) -> Drawing | None:
    choice = choose_together(runs, lambda chosen: agent_rows(chosen, metric))
    rows = choice.rows
    if not rows:
        return None
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    plot_agents(choice.runs, metric, ax=ax)
    caption = (
        f"{capital(axis_label(metric))} at each agent (points) and at their centroid (bars) after the last step, "
        "one column per replica."
    )
    caption += choice.notes
    return Drawing("agents", "Spread over the agents", caption, figure, rows, extremes(rows, metric, metric))


def _curves(runs: Sequence[Run], metric: str, x: str = "step") -> Drawing | None:
    choice = choose(runs, lambda chosen: curve_rows(chosen, metric, x=x))
    rows = choice.rows
    if not rows:
        return None
    trivial = baselines(choice.runs, metric)
    scale = choose_scale(metric, [row["mean"] for row in rows] + [*trivial.values()])
    figure = choice.draw(choice.runs, plot_curves, share_x=False, metric=metric, x=x, yscale=scale)
    limits = any("stability_limit" in row for run in runs for row in run.metrics)
    extra = " Dotted: the largest curvature at which the strategy is stable." if limits and "top_eig" in metric else ""
    extra += " Thin grey lines: trivial baselines." if trivial else ""
    return _over(choice, metric, metric if x == "step" else f"{metric}_over_{x}", figure, extra, x)


def _consensus(runs: Sequence[Run]) -> Drawing | None:
    choice = choose(runs, lambda chosen: curve_rows(chosen, "consensus_distance"))
    if not any(row["mean"] > 0 for row in choice.rows):
        return None
    extra = " Zeros, which a logarithmic axis cannot show, are left out."
    figure = choice.draw(choice.runs, plot_consensus, share_x=False)
    return _over(choice, "consensus_distance", "consensus", figure, extra)


def _tail_index(runs: Sequence[Run]) -> Drawing | None:
    choice = choose_together(runs, lambda chosen: replica_rows(chosen, "tail_index", "tail_index_error"))
    rows = choice.rows
    if not rows:
        return None
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    plot_tail_index(choice.runs, ax=ax)
    caption = (
        "Hill's estimate of the tail index of ‖g − mean g‖, g the gradient of one sample, at the centroid after the "
        "last step: one point per replica, with bars of 1.96 standard errors. Left of the line at 2 the noise has "
        "infinite variance."
    )
    caption += choice.notes
    finding = extremes(rows, "tail_index", "tail_index")
    return Drawing("tail_index", "Tail index of the gradient noise", caption, figure, rows, finding)


def _over(choice: Choice, metric: str, name: str, figure: Figure, extra: str, x: str = "step") -> Drawing:
    over = "the steps" if x == "step" else axis_label(x)
    caption = (
        f"{axis_label(metric)} over {over}. Lines: mean over the replicas that did not diverge "
        f"({replicas_a_run([row['n'] for row in choice.rows])}); bands: ± one standard error.{extra}"
    )
    title = f"{short_name(metric)} over {'the steps' if x == 'step' else short_name(x)}"
    caption = capital(caption) + choice.notes
    last = {row["label"]: row for row in choice.rows}
    finding = extremes(list(last.values()), metric, "mean").replace(" is ", " at the end is ", 1)
    return Drawing(name, capital(title), caption, figure, choice.rows, finding)


def _survival(runs: Sequence[Run]) -> Drawing | None:
    escaping = [run for run in runs if run.config.get("escape")]
    if not escaping:
        return None
    choice = choose_together(escaping, lambda chosen: [{"label": label} for label in labels(chosen)])
    shown = choice.runs
    curves = {label: kaplan_meier(*escape_times(run)) for label, run in zip(labels(shown), shown, strict=True)}
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    plot_survival(curves, ax=ax)
    caption = (
        "Kaplan-Meier estimate of the fraction of replicas whose centroid has not yet escaped, with pointwise 95 % "
        "intervals (log-log Greenwood); replicas that have not escaped by the end of the run are censored."
    )
    return Drawing("escape", "Escape", caption + choice.note, figure, survival_rows(curves))


def _trajectories(runs: Sequence[Run]) -> Drawing | None:
    if not any(run.config.get("trajectory") for run in runs):
        return None
    from basinet.analysis.plots.trajectory_plane import trajectory_drawing  # the only figure that needs torch

    return trajectory_drawing(runs)


def _of_tasks(runs: Sequence[Run]) -> Iterator[Drawing | None]:
    """Draw what runs of some tasks have made of their data."""
    tasks = {describe(run.config.get("task")).split(" ")[0] for run in runs}
    for module, draw, *of in _OF_TASKS:
        if not tasks.isdisjoint(of):
            made = getattr(import_module(f"basinet.analysis.report.{module}"), draw)(runs)
            yield from made if isinstance(made, list) else [made]
