"""Text of captions, titles and findings."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import SAME
from basinet.analysis.drawing.style import axis_label

__all__ = ["capital", "coincidences", "extremes", "replicas_a_run", "short_name"]


def coincidences(drawing: Drawing) -> str:
    """Explain the marks with several names in a figure.

    Args:
        drawing: The figure.

    Returns:
        A space and a sentence; empty if there are no such marks.
    """
    labels = [label for ax in drawing.figure.axes for label in ax.get_legend_handles_labels()[1]]
    merged = [{name.split(", ")[0] for name in label.split(SAME)} for label in labels if SAME in label]
    if not merged:
        return ""
    text = " Marks with several names (≈) coincide"
    of_agents = "consensus" in drawing.name
    if not of_agents and any({"diffusion ATC", "diffusion CTA"} <= names for names in merged):
        text += "; by theory diffusion ATC and CTA have the same centroid"
    return text + "."


def extremes(
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    column: str,
    label: Callable[[Mapping[str, Any]], str] = lambda row: str(row["label"]),
) -> str:
    """Name the series with the smallest and the largest mean of a column.

    Args:
        rows: The data of a figure.
        metric: The metric in the column.
        column: The column.
        label: Maps a row to the name of its series.

    Returns:
        A sentence; empty if there are no rows.
    """
    series: dict[str, list[float]] = {}
    for row in rows:
        series.setdefault(label(row), []).append(row[column])
    means = {name: fmean(values) for name, values in series.items()}
    if not means:
        return ""
    least, most = (end(means, key=lambda name: means[name]) for end in (min, max))
    name = capital(short_name(metric))
    if len(means) == 1:
        return f"{name}: {means[least]:.3g}."
    if means[most] - means[least] <= 1e-9 * abs(means[most]):
        return f"{name} is {means[least]:.3g} for all."
    return f"{name} is lowest for {least} ({means[least]:.3g}) and highest for {most} ({means[most]:.3g})."


def replicas_a_run(counts: Sequence[int]) -> str:
    """Describe the number of replicas per run.

    Args:
        counts: Number of replicas of each run.

    Returns:
        A few words.
    """
    least, most = min(counts), max(counts)
    number = str(most) if least == most else f"{least} to {most}"
    return f"{number} {'replica' if most == 1 else 'replicas'} per run"


def short_name(metric: str) -> str:
    """Name a metric without its unit and its formula.

    Args:
        metric: Its name.

    Returns:
        The name in words.
    """
    return axis_label(metric).split(" (")[0].split(" J(")[0]


def capital(text: str) -> str:
    """Capitalise the first letter of a text; unlike `str.capitalize`, leave the others as they are.

    Args:
        text: The text.

    Returns:
        The text.
    """
    return text[:1].upper() + text[1:]
