"""Literal text in figures: a dollar sign in a name does not start a formula."""

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

__all__ = ["show_literally"]


def show_literally(figure: Figure) -> None:
    """Show all text of a figure literally, except powers of ten at ticks, which matplotlib writes as formulas.

    Args:
        figure: The figure, drawn and not yet saved.
    """
    axes = [axis for axis in figure.findobj(Axis) if isinstance(axis, Axis)]
    powers = {
        id(text)
        for axis in axes
        if isinstance(axis.get_major_formatter(), LogFormatter)
        for text in axis.findobj(Text)
        if text is not axis.label
    }
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in powers:
            text.set_parse_math(False)
