"""The grid of an experiment: lists and ranges of values, cases and named axes, and the points they expand to."""

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from basinet.sim.experiment.changes import DIGESTS
from basinet.sim.experiment.component import ExperimentError, is_list_setting, nearest
from basinet.sim.experiment.config import BESIDE_RUNS, DEFAULTS, KINDS, LENGTHS, NESTED, Config, RuntimePart
from basinet.sim.experiment.digest import name_of
from basinet.sim.experiment.grids.named_axes import NamedAxis, named_axes
from basinet.sim.experiment.grids.ranges import MOST_RUNS, choices, is_range
from basinet.sim.experiment.grids.run_names import distinct_texts
from basinet.sim.experiment.mistakes import shown
from basinet.sim.setup.start import Start
from basinet.sim.tasks import is_list_of_samples

__all__ = ["INSTEAD", "copied", "expand", "frozen", "lay", "place", "split_strategy"]

INSTEAD = {key: tuple(other for other in LENGTHS if other != key) for key in LENGTHS}
"""Keys that are dropped when one is overridden, which replaces them."""

_OF_THE_GRID = ("case", "strategy", "strategy_keys", "tuned")
"""Keys that a strategy cannot set."""

_LISTS = frozenset(
    name
    for name, field in Config.model_fields.items()
    if any(get_origin(kind) is tuple for kind in (field.annotation, *get_args(field.annotation)))
)
"""Keys whose values are lists themselves rather than axes of a grid."""


def expand(description: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Expand a description to the points of its grid.

    Args:
        description: The experiment, with lists and ranges for several values, cases, and named axes.

    Yields:
        The names of the point's values on the axes of the grid, and the full description at the point.

    Raises:
        ExperimentError: There are too many points, or none.
    """
    laid, axes = _cases(description), named_axes(description.get("axes"), Config.model_fields)
    _check_apart(description.get("cases"), axes)
    _check_size(len(laid) * math.prod(len(axis.points) for axis in axes))
    starts = [
        (named | own | chosen, point)
        for named, case in laid
        for own, placed in _on_axes(case, axes)
        for chosen, point in _by_strategy(placed)
    ]
    _check_size(sum(math.prod(len(values) for _, values in _axes(point)) for _, point in starts))
    for named, point in starts:
        for chosen, leaf in _expand_lists(point):
            yield named | chosen, leaf


def _check_size(least: int) -> None:
    if least > MOST_RUNS:
        raise ExperimentError(
            f"the grid has {least:,} runs or more; allowed are at most {MOST_RUNS:,}: give fewer values on its longest"
            " axes, name the combinations that matter as cases, or make several experiments"
        )


def _check_apart(cases: Mapping[str, Mapping[str, Any]] | None, axes: Sequence[NamedAxis]) -> None:
    """Raise if a key is both in a case and on a named axis."""
    for name, case in (cases or {}).items():
        for axis in axes:
            if both := [key for key in axis.points[0] if key in case]:
                raise ExperimentError(
                    f"axes.{axis.name}: {both[0]} is set by the case {name}, too; allowed is one of both"
                )


def _cases(description: Mapping[str, Any]) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Expand the cases, each of which overrides the experiment."""
    base = {key: value for key, value in description.items() if key not in BESIDE_RUNS}
    cases = description.get("cases")
    if cases is None:
        return [({}, copied(base))]
    if not (isinstance(cases, Mapping) and all(isinstance(case, Mapping) for case in cases.values())):
        raise ExperimentError("cases: allowed is a mapping from names to mappings of keys to values")
    if not cases:
        raise ExperimentError("cases: an empty mapping leaves nothing to run")
    found, strategies = [], []
    for name, text in zip(cases, distinct_texts(list(cases)), strict=True):
        point = copied(base) | {"case": str(name)}
        for key, value in cases[name].items():
            lay(point, str(key), value)
        found.append(({"case": text}, point))
        others = [str(key) for key in cases[name] if str(key).split(".")[0] != "strategy"]
        if len(others) < len(cases[name]) and not any(_axes({"strategy": point["strategy"]})):
            point["strategy_keys"] = ("case", *others)
            strategies.append(frozen(point["strategy"]))
    # Cases that share strategies are conditions to compare them in; otherwise, they stand for their strategies.
    for _, point in found if len(set(strategies)) < len(strategies) else ():
        if point.pop("strategy_keys", None) and len(set(strategies)) > 1:
            point["strategy_keys"] = ("case",)
    return found


def _on_axes(point: dict[str, Any], axes: Sequence[NamedAxis]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Expand the named axes, each point of which overrides the experiment."""
    for numbers in itertools.product(*(range(len(axis.points)) for axis in axes)):
        placed, chosen = copied(point), dict[str, str]()
        for axis, number in zip(axes, numbers, strict=True):
            values = axis.points[number]
            for key, value in values.items():
                lay(placed, key, value)
            if "strategy" in values:
                others = [key for key in values if key.split(".")[0] != "strategy"]
                placed["strategy_keys"] = (*placed.get("strategy_keys", ()), *others)
            chosen[axis.name] = axis.texts[number]
        yield chosen, placed


def _by_strategy(point: dict[str, Any]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Expand the strategies, each of which overrides the experiment by the experiment keys in its mapping."""
    given = point.get("strategy")
    choices = given if isinstance(given, list) else [given]
    laid = [split_strategy(choice) for choice in choices]
    if not any(keys for _, keys in laid):
        yield {}, point
        return
    names = distinct_texts([own for own, _ in laid])
    count = Counter(frozen(own) for own, _ in laid)
    for (own, keys), name in zip(laid, names, strict=True):
        new = copied(point) | {"strategy": own}
        for key, value in keys.items():
            lay(new, key, value)
        if keys:
            new["strategy_keys"] = (*point.get("strategy_keys", ()), *keys)
        texts = {key: distinct_texts([value])[0] for key, value in keys.items()} if count[frozen(own)] > 1 else {}
        yield {"strategy": name, **texts}, new


def split_strategy(choice: Any) -> tuple[Any, dict[str, Any]]:
    """Split a strategy's mapping into settings and experiment keys.

    Args:
        choice: A name, a mapping, or an object.

    Returns:
        The strategy with its own settings, and the experiment's keys in its mapping.

    Raises:
        ExperimentError: A key is neither.
    """
    if not isinstance(choice, Mapping) or "name" not in choice:
        return choice, {}
    names = choice["name"] if isinstance(choice["name"], list) else [choice["name"]]
    known = [_settings_of(name) for name in names]
    settings = None if None in known else {word for words in known for word in words or ()}
    own, keys = {}, {}
    for key, value in choice.items():
        first = str(key).split(".")[0]
        if key in ("name", "label", *DIGESTS) or (settings and key in settings):
            own[key] = value
        elif first in Config.model_fields and first not in _OF_THE_GRID:
            keys[str(key)] = value
        elif settings is None:
            own[key] = value
        else:
            who = " or ".join(name if isinstance(name, str) else name_of(name) for name in names)
            hint = nearest(str(key), [*settings, *Config.model_fields]).partition("; ")[2]
            raise ExperimentError(
                f"strategy.{key}: {who} has no setting '{key}', nor is it a key of the experiment; allowed are its own"
                f" settings ({', '.join(sorted(settings)) or 'it has none'}) and keys of the experiment, such as"
                f" batch_size and optimizer.lr{hint and '; ' + hint}"
            )
    return own, keys


def _settings_of(strategy: Any) -> set[str] | None:
    """Return the names of a strategy's settings; None if it does not exist or takes any setting."""
    try:
        found = KINDS["strategy"].settings(strategy)
    except (ExperimentError, TypeError):
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in found.values()) else set(found)


def _expand_lists(
    description: dict[str, Any], outer: Sequence[list[str]] = ()
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    found = list(_axes(description))
    for path, values in found:
        key = ".".join(path)
        if not values:
            raise ExperimentError(f"{key}: an empty list leaves nothing to run")
        if path in outer:
            raise ExperimentError(f"{key}: got {shown(values)} as one of several values; allowed are single values")
        plain = Counter(value for value in values if isinstance(value, int | float | str))
        if (twice := next((value for value, count in plain.items() if count > 1), None)) is not None:
            raise ExperimentError(f"{key}: got {shown(values)}, where {shown(twice)} is twice; give each value once")
    axes = [(path, list(zip(distinct_texts(values), values, strict=True))) for path, values in found]
    for combined in itertools.product(*(named for _, named in axes)):
        point = copied(description)
        chosen = {}
        for (path, _), (text, value) in zip(axes, combined, strict=True):
            place(point, path, value)
            chosen[".".join(path)] = text
        # The values on an axis may hold lists themselves, such as strategy: [{name: …, order: [atc, cta]}].
        if any(isinstance(value, Mapping | list) for _, value in combined) and any(_axes(point)):
            for inner, leaf in _expand_lists(point, [*outer, *(path for path, _ in axes)]):
                yield {**chosen, **inner}, leaf
        else:
            yield chosen, point


def _axes(description: Mapping[str, Any]) -> Iterable[tuple[list[str], list[Any]]]:
    """Find the keys with several values."""
    for key, value in description.items():
        if (key in _LISTS and not isinstance(value, Mapping)) or (key == "task" and is_list_of_samples(value)):
            continue
        if (values := choices(key, value)) is not None:
            yield [key], values
        elif isinstance(value, Mapping):
            yield from _nested_axes(key, value)


def _nested_axes(key: str, given: Mapping[str, Any]) -> Iterable[tuple[list[str], list[Any]]]:
    for inner, value in given.items():
        nested = NESTED.get(key, {}).get(inner)
        if nested and isinstance(value, Mapping) and not is_range(value):
            for deep, several in value.items():
                whole = isinstance(several, list) and is_list_setting(KINDS[nested], value, deep)
                if not whole and (values := choices(f"{key}.{inner}.{deep}", several)) is not None:
                    yield [key, inner, deep], values
            continue
        whole = isinstance(value, list) and (
            (key in KINDS and is_list_setting(KINDS[key], given, inner))
            or (key == "start" and inner in Start.LISTS)
            or (key == "runtime" and inner in RuntimePart.LISTS)
        )
        if not whole and (values := choices(f"{key}.{inner}", value)) is not None:
            yield [key, inner], values


def copied(value: Any) -> Any:
    """Copy the mappings, but not the user's objects in them.

    Args:
        value: A part of a description.

    Returns:
        The copy.
    """
    return {str(k): copied(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def place(description: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value; a component on the path that is given by its name becomes a mapping.

    Args:
        description: Changed in place.
        path: The words of a dotted key.
        value: The value.

    Raises:
        ExperimentError: A key on the path has several values.
    """
    *outer, last = path
    for depth, word in enumerate(outer):
        inner = description.get(word)
        if inner is None:
            inner = DEFAULTS.get(".".join(path[: depth + 1]), {})
        elif isinstance(inner, list):
            raise ExperimentError(f"{'.'.join(path)}: {word} has several values here; set it as a whole: {word}=…")
        description[word] = dict(inner) if isinstance(inner, Mapping) else {"name": inner}
        description = description[word]
    description[last] = value


def lay(point: dict[str, Any], key: str, value: Any) -> None:
    """Override a value of the experiment, and drop the keys that it replaces.

    Args:
        point: A description with single values, changed in place.
        key: A dotted key.
        value: The value.
    """
    for other in INSTEAD.get(key, ()):
        point.pop(other, None)
    place(point, key.split("."), value)


def frozen(value: Any) -> Hashable:
    """Convert a value to a hashable key, equal for equal values; a user's object only equals itself.

    Args:
        value: Any value.

    Returns:
        The key.
    """
    if isinstance(value, Mapping):
        return ("mapping", *((str(key), frozen(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(frozen, value))
    plain = value is None or isinstance(value, bool | int | float | str)
    return (type(value).__name__, value if plain else id(value))
