"""Literal text in figures: a dollar sign in a name does not start a formula."""

from collections.abc import Iterator

from matplotlib.artist import Artist
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
    for text in _texts(figure):
        text.set_parse_math(False)


def _texts(artist: Artist) -> Iterator[Text]:
    """Iterate over the texts in an artist; no names are at minor ticks, which would take most of the time."""
    for child in artist.get_children():
        if isinstance(child, Text):
            yield child
        elif isinstance(child, Axis):
            yield child.label
            if not isinstance(child.get_major_formatter(), LogFormatter):
                yield child.offsetText
                for tick in child.get_major_ticks():
                    yield from (tick.label1, tick.label2)
        else:
            yield from _texts(child)
