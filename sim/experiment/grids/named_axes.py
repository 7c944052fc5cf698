"""Named axes of a grid: keys that go together from value to value."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.grids.ranges import choices, is_range
from basinet.sim.experiment.grids.run_names import distinct_texts
from basinet.sim.experiment.mistakes import shown

__all__ = ["NamedAxis", "axis_columns", "named_axes"]

_FORM = "allowed is a mapping from names of axes to mappings of keys to lists or ranges of the same length"


@dataclass(frozen=True)
class NamedAxis:
    """An axis whose keys go together.

    Attributes:
        name: Its name.
        points: Values of its keys at each of its points.
        texts: Names of the points, in short.
    """

    name: str
    points: list[dict[str, Any]]
    texts: list[str]


def named_axes(given: Any, fields: Collection[str] = ()) -> list[NamedAxis]:
    """Read the named axes of an experiment.

    Args:
        given: The value of its key `axes`.
        fields: The keys of an experiment; by default, those of a record that have been checked are not again.

    Returns:
        The axes.

    Raises:
        ExperimentError: Keys are unknown or on two axes, or have different numbers of values.
    """
    if given is None:
        return []
    if not (isinstance(given, Mapping) and given and all(isinstance(keys, Mapping) for keys in given.values())):
        raise ExperimentError(f"axes: got {shown(given)}; {_FORM}")
    found, owners = [], dict[str, str]()
    for name, keys in given.items():
        columns = dict(axis_columns(f"axes.{name}", keys, fields))
        if not str(name) or "." in str(name) or str(name) in fields:
            raise ExperimentError(
                f"axes: got the name {shown(name)}; an axis needs one without dots that is no key of an experiment,"
                " such as size"
            )
        for key in columns:
            if (other := owners.setdefault(key, str(name))) != str(name):
                raise ExperimentError(f"axes.{name}: {key} is on the axis {other}, too; allowed is one axis for a key")
        lengths = {key: len(values) for key, values in columns.items()}
        if not columns or min(lengths.values()) == 0:
            raise ExperimentError(f"axes.{name}: an axis without values leaves nothing to run")
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{count} of {key}" for key, count in lengths.items())
            raise ExperimentError(f"axes.{name}: keys that go together need equally many values, got {told}")
        points = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        found.append(NamedAxis(str(name), points, distinct_texts(points)))
    return found


def axis_columns(
    place: str, keys: Mapping[Any, Any], fields: Collection[str], prefix: str = ""
) -> Iterator[tuple[str, list[Any]]]:
    """Read keys with several values each.

    Args:
        place: The dotted key of the mapping.
        keys: A mapping, possibly nested, from keys to lists or ranges.
        fields: The keys of an experiment; empty if they have been checked.
        prefix: What precedes the keys.

    Yields:
        Each key by its dotted name, and its values.

    Raises:
        ExperimentError: It is no key of an experiment, or has a single value.
    """
    for word, given in keys.items():
        key = f"{prefix}{word}"
        if isinstance(given, Mapping) and not is_range(given):
            yield from axis_columns(place, given, fields, f"{key}.")
            continue
        known = [name for name in fields if name not in ("case", "strategy_keys", "tuned")]
        if known and (first := key.split(".")[0]) not in known:
            raise ExperimentError(f"{place}: an experiment has no key '{first}'; {nearest(first, known)}")
        values = choices(f"{place}.{key}", given)
        if values is None:
            raise ExperimentError(f"{place}.{key}: got {shown(given)}; allowed are lists and ranges")
        yield key, values
