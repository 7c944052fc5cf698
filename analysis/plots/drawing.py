"""A figure and what belongs to it."""

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

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
    """

    name: str
    title: str
    caption: str
    figure: Figure
    rows: list[dict[str, Any]]
