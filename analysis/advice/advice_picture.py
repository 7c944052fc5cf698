"""A picture of advice: what a step consists of on each graph, and how long steps, agreement and accuracy take."""

import math

import numpy as np
from matplotlib.figure import Figure

from basinet.analysis.advice.advice import Advice
from basinet.analysis.advice.question import CRITERIA
from basinet.analysis.advice.round_times import BOUNDS
from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.layout import Fitted, Sheet
from basinet.analysis.drawing.legends import legend_below_panels
from basinet.analysis.drawing.style import ink

__all__ = ["draw_advice"]

_COLORS = {"compute": "#009E73", "stragglers": "#E69F00", "latency": "#56B4E9", "bandwidth": "#CC79A7"}
_MARKS = {"round": "o", "agreement": "^", "accuracy": "s"}
_LABELS = {"round": "a step", "agreement": "to agreement", "accuracy": "to accuracy"}


def draw_advice(advice: Advice) -> Figure:
    """Draw advice, the best choice on top.

    Args:
        advice: The advice.

    Returns:
        A figure not managed by pyplot: the parts of a step in percent, and times on a logarithmic axis.
    """
    choices = advice.choices
    places = np.arange(len(choices))
    figure = Sheet(figsize=(9.5, 1.2 + 0.3 * len(choices)), layout=Fitted())
    shares, times = figure.subplots(1, 2, sharey=True)
    left = np.zeros(len(choices))
    for part in BOUNDS:
        widths = np.array([100 * one.time.parts[part] / max(one.time.step, 1e-9) for one in choices])
        shares.barh(places, widths, left=left, color=_COLORS[part], label=part, height=0.7)
        left += widths
    shares.set(xlabel="share of a step (%)", xlim=(0, 100), ylim=(len(choices) - 0.4, -0.6))
    shares.set_yticks(places, [one.name for one in choices])
    for goal in reversed(CRITERIA):
        needs = [one.needs(goal) / 1e9 for one in choices]
        points = [(need, place) for need, place in zip(needs, places, strict=True) if 0 < need < math.inf]
        if points:
            look = {"color": ink(), "markerfacecolor": "none" if goal == "round" else ink()}
            times.plot(*zip(*points, strict=True), linestyle="none", marker=_MARKS[goal], label=_LABELS[goal], **look)
    times.set(xlabel="time (s)", xscale="log")
    times.grid(axis="x", alpha=0.3)
    label_log_axes(times)
    entries = [entry for ax in (shares, times) for entry in zip(*ax.get_legend_handles_labels(), strict=True)]
    legend_below_panels(figure, [handle for handle, _ in entries], [text for _, text in entries])
    return figure
