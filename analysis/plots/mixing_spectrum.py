"""The eigenvalues of a mixing matrix."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from basinet.analysis.drawing.checks import kind_of, require
from basinet.analysis.drawing.style import ACCENT, GREY, MAIN, finish, new_axes
from basinet.sim.experiment.component import ExperimentError

__all__ = ["plot_spectrum"]

_MOST_MARKERS = 100
_ROUNDING = 1e-12


def plot_spectrum(eigenvalues: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Draw eigenvalues with their mixing rate: in order where they are real, otherwise in the complex plane.

    The mixing rate is the largest modulus but for that of one eigenvalue 1. The nearer it is to zero, the faster the
    agents agree.

    Args:
        eigenvalues: All eigenvalues of a matrix whose rows sum to one, [K], real or complex.
        ax: Where to draw; new axes if None.

    Returns:
        The axes.

    Raises:
        ExperimentError: Something else was given.
        NoDataError: There are none.
    """
    try:
        values = np.asarray(eigenvalues) + 0.0
    except (TypeError, ValueError):
        values = np.zeros((0, 0))
    if values.ndim != 1:
        raise ExperimentError(f"eigenvalues: expected a vector of numbers, not {kind_of(eigenvalues)}")
    require(values, "there are no eigenvalues to draw")
    ax = new_axes(ax)
    rate = min(1.0, float(np.sort(np.abs(values))[-2])) if len(values) > 1 else 0.0
    label = f"mixing rate {rate if rate > _ROUNDING else 0:.4g}"
    if np.iscomplexobj(values):
        circle = np.exp(2j * np.pi * np.linspace(0, 1, 361))
        ax.plot(circle.real, circle.imag, color=GREY, linewidth=1)
        ax.plot(rate * circle.real, rate * circle.imag, color=ACCENT, linestyle="--", linewidth=1, label=label)
        ax.plot(values.real, values.imag, "o", color=MAIN, markersize=5, alpha=0.6)
        ax.set(xlabel="Re λ", ylabel="Im λ", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
        ax.set(xticks=np.linspace(-1, 1, 5), yticks=np.linspace(-1, 1, 5))
    else:
        order = np.arange(1, len(values) + 1)
        for sign, name in ((1, label), (-1, None)):
            ax.axhline(sign * rate, color=ACCENT, linestyle="--", linewidth=1, label=name)
        marked = "o-" if len(values) <= _MOST_MARKERS else "-"
        ax.plot(order, np.sort(values)[::-1], marked, color=MAIN, markersize=4, linewidth=1)
        lowest = min(float(values.min()), -rate)
        ax.set(xlabel="k", ylabel="eigenvalue λ_k", ylim=(lowest - 0.08, 1.08))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    return finish(ax, below=True)
