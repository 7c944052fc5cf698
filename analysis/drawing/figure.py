"""A figure and what belongs to it."""

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from basinet.analysis.drawing.literal import show_literally

__all__ = ["Drawing"]


@dataclass(frozen=True)
class Drawing:
    """A figure and what belongs to it.

    Attributes:
        name: Name of its files.
        title: What it shows, in a few words.
        caption: What it shows, in sentences.
        figure: The figure; pyplot does not know it.
        rows: The data that it was drawn from.
        finding: What is found in it, in a sentence, for those who do not see it.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    rows: list[dict[str, Any]]
    finding: str = ""

    def __post_init__(self) -> None:
        show_literally(self.figure)
