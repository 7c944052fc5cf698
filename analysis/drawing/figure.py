"""A figure with its caption and data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from basinet.analysis.drawing.literal import show_literally

__all__ = ["Drawing"]


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption and data.

    Attributes:
        name: Name of its files.
        title: What it shows, in a few words.
        caption: What it shows, in sentences.
        figure: The figure, not managed by pyplot.
        rows: The data that it was drawn from.
        finding: The main result, in a sentence, for readers who cannot see it.
        table: Headings and rows of a table that is folded below the figure, grouped by its first column, which is
            followed by one of words and others of numbers.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    rows: list[dict[str, Any]]
    finding: str = ""
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None

    def __post_init__(self) -> None:
        show_literally(self.figure)
