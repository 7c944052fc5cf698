"""Names of the runs of a grid: short, valid as folder names, and determined by the experiment."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import shown

if TYPE_CHECKING:  # imports torch, which readers of names do without
    from basinet.sim.experiment.config import Config

__all__ = ["distinct_texts", "point_of", "run_name", "strategy_name"]

_LONGEST_VALUE = 40
"""Most characters of a value in a name."""

_LONGEST_NAME = 160
"""Most bytes of a name in UTF-8: file systems allow 255, and a number may be appended."""


def strategy_name(config: "Config") -> str:
    """Name a run's strategy, with its order if it has one, and the settings that differ from their defaults.

    Args:
        config: The run.

    Returns:
        A name such as "diffusion-atc".
    """
    described = config.strategy.describe()
    name = str(described.pop("name")).split(":")[-1].split(".")[-1]
    kept = ("order", *config.strategy.settings)
    words = [_text(v) if key == "order" else f"{key}={_text(v)}" for key, v in described.items() if key in kept]
    return "-".join([name, *words])


def run_name(config: "Config", axes: Mapping[str, str]) -> str:
    """Name a run by its strategy, its case, and the values on the other axes of the grid.

    Args:
        config: The run.
        axes: Names of the run's values on the axes of the grid, by dotted key.

    Returns:
        The name of its folder.
    """
    parts = [axes["strategy"] if config.strategy.is_ready and "strategy" in axes else strategy_name(config)]
    parts += [axes["case"]] if "case" in axes else []
    parts += [
        f"{key.split('.')[-1]}={text}"
        for key, text in axes.items()
        if key not in ("case", "strategy", "strategy.order")
    ]
    name = "_".join(parts).encode()[:_LONGEST_NAME].decode(errors="ignore")
    return _safe(name).strip("-.") or "run"


def point_of(name: str, axis: str, texts: Sequence[str]) -> str | None:
    """Find which point of an axis a run is at.

    Args:
        name: The name that `run_name` gave it.
        axis: The axis.
        texts: Names of its points.

    Returns:
        The name of the point; None if that of the run says none.
    """
    for text in sorted(texts, key=len, reverse=True):
        if re.search(rf"_{re.escape(_safe(f'{axis}={text}'))}(_|-\d+$|$)", name):
            return text
    return None


def distinct_texts(values: Sequence[Any]) -> list[str]:
    """Format values in short for folder names, so that different values can be told apart.

    Args:
        values: Values on an axis of a grid, or names.

    Returns:
        One text per value; equal texts of different values are numbered: "Graph-1", "Graph-2".
    """
    texts = [_safe(_text(value))[:_LONGEST_VALUE] for value in values]
    count = Counter(texts)
    digests: dict[str, set[str]] = {}
    for text, value in zip(texts, values, strict=True):
        if count[text] > 1:
            digests.setdefault(text, set()).add(digest(value))
    numbers: Counter[str] = Counter()
    named = []
    for text in texts:
        says = text.strip("-_=.+")
        if says and len(digests.get(text, ())) < 2:
            named.append(text)
        else:
            numbers[says] += 1
            named.append(f"{says or 'value'}-{numbers[says]}")
    return named


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "-".join(map(_text, value.values()))
    if isinstance(value, list | tuple):
        return "x".join(map(_text, value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        return shown(value)
    if value is None or isinstance(value, float | str):
        return str(value)
    own = getattr(value, "name", None)  # such as a graph's
    return own if isinstance(own, str) and own else str(getattr(value, "__name__", type(value).__name__))


def _safe(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    return re.sub(r"[^\w\-=.+]", "-", text)
