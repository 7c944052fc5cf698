"""The experiment: a description from a YAML file, from `key=value`, or from Python objects, and its grid of runs.

A list where one value is wanted makes a grid; `cases` lays named sets of values over the experiment, for keys
that change together. Every point of the grid is a `Config`: one run.
"""

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from basinet.sim.experiment import yaml_files
from basinet.sim.experiment.component import DIGESTS, ExperimentError, is_list_setting, nearest
from basinet.sim.experiment.config import DEFAULTS, KINDS, NESTED, Config
from basinet.sim.experiment.digest import name_of
from basinet.sim.experiment.mistakes import shown
from basinet.sim.experiment.run_names import distinct_texts, run_name
from basinet.sim.tasks import is_list_of_samples

__all__ = ["Experiment", "override"]

MOST_RUNS = 100_000
"""Runs of a grid that there may be."""

_INSTEAD = {"steps": "epochs", "epochs": "steps"}
"""What gives way where something is laid over it."""

_OF_THE_GRID = ("case", "strategy", "strategy_keys")
"""Keys that no strategy can set."""

_LISTS = frozenset(name for name, field in Config.model_fields.items() if get_origin(field.annotation) is tuple)
"""Keys whose values are lists themselves, and make no grid."""


class Experiment:
    """A description and the runs that it stands for.

    Args:
        description: Keys and values: see `Config` for the keys; `cases`, a mapping from a case's name to values
            that are laid over the experiment in that case; `skip`, "impossible" if runs whose parts do not fit together
            are to be left out; and `about`, a text for the report. A strategy's mapping may hold keys of the
            experiment beside its own settings: they are laid over the experiment for that strategy.
        **values: The same as keywords.

    Attributes:
        description: The experiment as given.
        runs: Configuration of each run, by its name.
        skips_impossible: Whether runs whose parts do not fit together are left out; else they are a mistake.

    Raises:
        ExperimentError: Something in it is not allowed; the message is one sentence.

    Example:
        >>> e = Experiment(task="digits", topology={"name": "ring", "agents": 4}, strategy=["isolated", "diffusion"])
        >>> list(e.runs)
        ['isolated', 'diffusion-atc']
    """

    def __init__(self, description: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        self.description = {**(description or {}), **values}
        skip = self.description.get("skip")
        if skip not in (None, "impossible"):
            raise ExperimentError(f"skip: got {shown(skip)}; allowed is impossible, or no such key")
        self.skips_impossible = skip is not None
        self.runs: dict[str, Config] = {}
        parser, names = _Parser(), _Names()
        for axes, point in _expand(self.description):
            config = parser.parse(point)
            self.runs[names.give(run_name(config, axes), config)] = config

    def __repr__(self) -> str:
        names = list(self.runs)
        shown = ", ".join(names if len(names) <= 8 else [*names[:7], "…"])
        return f"Experiment({len(names)} {'run' if len(names) == 1 else 'runs'}: {shown})"

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> "Experiment":
        """Read an experiment from a YAML file.

        Args:
            path: The file.
            overrides: `key=value`, see `override`.

        Returns:
            The experiment.

        Raises:
            ExperimentError: The file cannot be read, or something in it is not allowed.
        """
        try:
            description = yaml_files.read(Path(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ExperimentError(f"{path}: the experiment cannot be read: {reason}") from None
        if not isinstance(description, dict):
            raise ExperimentError(f"{path}: an experiment is a mapping of keys to values")
        description.pop("versions", None)
        description.pop("runs", None)
        objects = {key: description.get(key) for key in description.pop("objects", ())}
        description.pop("impossible", None)
        override(description, overrides)
        for key, value in objects.items():
            if description.get(key) == value:
                raise ExperimentError(
                    f"{key}: {path} records an object that was given from Python, which no file holds; run the script"
                    f" again that gave it, or give another one: {key}=…"
                )
        try:
            return cls(description)
        except ExperimentError as error:
            raise ExperimentError(_as_typed(str(error), overrides, path)) from None


def override(description: dict[str, Any], words: Iterable[str]) -> None:
    """Lay words of a command line over a description.

    Args:
        description: Keys and values, changed in place.
        words: Dotted keys and values, `key=value`; a value is read as YAML, and commas outside brackets and quotes make
            a list.

    Raises:
        ExperimentError: One is not written so, or would undo another.
    """
    typed: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ExperimentError(f"{word}: an override is written key=value")
        instead = _INSTEAD.get(key)
        undone = next((k for k in typed if k in (key, instead) or k.startswith(f"{key}.")), None)
        if undone is not None:
            remedy = "give one of them" if undone in (key, instead) else "give it first"
            raise ExperimentError(f"{word}: it would undo {undone}={typed[undone]}; {remedy}")
        typed[key] = text
        value = _read_word(key, text)
        # What is asked for on the command line goes before what a case sets, or a strategy.
        overlays = [*_mappings(description.get("cases")), *_strategies(description, key)]
        for place in (description, *overlays):
            place.pop(instead, None)
        for overlay in overlays:
            _lay_over(overlay, key, value)
        _place(description, key.split("."), value)


def _read_word(key: str, text: str) -> Any:
    """Read the value of a word."""
    try:
        value = yaml_files.load(text)
    except ValueError as error:
        value = _read_list(text)
        if value is None:
            raise ExperimentError(f"{key}: the value {shown(text)} is not YAML that can be read: {error}") from None
    else:
        if isinstance(value, str) and value == text.strip():  # no quotes
            value = _read_list(text) or value
    if value is None and not text.strip():
        raise ExperimentError(f"{key}: a value is needed after the equals sign")
    return value


def _read_list(text: str) -> list[Any] | None:
    """Read values between commas."""
    try:
        values = yaml_files.load(f"[{text}]") if "," in text else None
    except ValueError:
        return None
    return values if isinstance(values, list) else None


def _as_typed(message: str, words: Iterable[str], path: str | Path) -> str:
    """Name the word that chose a component, where the component has no setting that the file gives it."""
    complained, _, _ = message.partition(": ")
    typed = [word.partition("=")[::2] for word in words]
    if " has no setting " not in message or any(key == complained for key, _ in typed):
        return message
    for key, text in reversed(typed):
        component, (place, _, setting) = key.removesuffix(".name"), complained.rpartition(".")
        if place == component and setting not in text:
            remedy = f"; {component}={text} leaves out what is set there" if key != component else ""
            return f"{key}={text}: {path} sets {message}{remedy}"
    return message


def _lay_over(case: dict[Any, Any], key: str, value: Any) -> None:
    """Let a value that is laid over the experiment hold in a case too."""
    case.pop(key, None)
    if any(isinstance(choice, Mapping) for choice in (value if isinstance(value, list) else [value])):
        for setting in [name for name in case if str(name).startswith(f"{key}.")]:
            del case[setting]
    words = key.split(".")
    for depth in range(1, len(words)):
        whole = ".".join(words[:depth])
        if whole in case:
            _place(case, [whole, *words[depth:]], value)


def _strategies(description: Mapping[str, Any], key: str) -> list[dict[Any, Any]]:
    """Find the strategies in whose mappings a key is one of the experiment."""
    places = [description, *_mappings(description.get("cases"))]
    given = [place.get("strategy") for place in places]
    choices = [choice for value in given for choice in (value if isinstance(value, list) else [value])]
    return [choice for choice in choices if isinstance(choice, dict) and key not in _split(choice)[0]]


def _mappings(cases: Any) -> list[dict[Any, Any]]:
    return [case for case in cases.values() if isinstance(case, dict)] if isinstance(cases, dict) else []


def _expand(description: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Yield the points of the grid: what the values on its axes are called, and the whole description at the point."""
    starts = [(named | chosen, point) for named, laid in _cases(description) for chosen, point in _by_strategy(laid)]
    least = sum(math.prod(len(choices) for _, choices in _axes(point)) for _, point in starts)
    if least > MOST_RUNS:
        raise ExperimentError(
            f"the grid has {least:,} runs or more; allowed are at most {MOST_RUNS:,}: give fewer values on its longest"
            " axes, name the combinations that matter as cases, or make several experiments"
        )
    for named, point in starts:
        for chosen, leaf in _expand_lists(point):
            yield named | chosen, leaf


def _cases(description: Mapping[str, Any]) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Lay the cases over the experiment."""
    base = {key: value for key, value in description.items() if key not in ("about", "skip", "cases")}
    cases = description.get("cases")
    if cases is None:
        return [({}, _copy(base))]
    if not (isinstance(cases, Mapping) and all(isinstance(case, Mapping) for case in cases.values())):
        raise ExperimentError("cases: allowed is a mapping from names to mappings of keys to values")
    if not cases:
        raise ExperimentError("cases: an empty mapping leaves nothing to run")
    found, strategies = [], []
    for name, text in zip(cases, distinct_texts(list(cases)), strict=True):
        point = _copy(base) | {"case": str(name)}
        for key, value in cases[name].items():
            _lay(point, str(key), value)
        found.append(({"case": text}, point))
        others = [str(key) for key in cases[name] if str(key).split(".")[0] != "strategy"]
        if len(others) < len(cases[name]) and not any(_axes({"strategy": point["strategy"]})):
            point["strategy_keys"] = ("case", *others)
            strategies.append(_frozen(point["strategy"]))
    # Cases that share strategies are conditions, in which these are compared; else they stand for their strategies.
    for _, point in found if len(set(strategies)) < len(strategies) else ():
        if point.pop("strategy_keys", None) and len(set(strategies)) > 1:
            point["strategy_keys"] = ("case",)
    return found


def _by_strategy(point: dict[str, Any]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Lay the keys of the experiment that a strategy's mapping holds over the experiment, strategy by strategy."""
    given = point.get("strategy")
    choices = given if isinstance(given, list) else [given]
    laid = [_split(choice) for choice in choices]
    if not any(keys for _, keys in laid):
        yield {}, point
        return
    names = distinct_texts([own for own, _ in laid])
    count = Counter(_frozen(own) for own, _ in laid)
    for (own, keys), name in zip(laid, names, strict=True):
        new = _copy(point) | {"strategy": own}
        for key, value in keys.items():
            _lay(new, key, value)
        if keys:
            new["strategy_keys"] = (*point.get("strategy_keys", ()), *keys)
        texts = {key: distinct_texts([value])[0] for key, value in keys.items()} if count[_frozen(own)] > 1 else {}
        yield {"strategy": name, **texts}, new


def _split(choice: Any) -> tuple[Any, dict[str, Any]]:
    """Split a strategy as given into itself with its own settings, and the keys of the experiment beside them."""
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
                f"strategy.{key}: {who} has no setting '{key}', and an experiment no such key; allowed are its own"
                f" settings ({', '.join(sorted(settings)) or 'it has none'}) and keys of the experiment, such as"
                f" batch_size and optimizer.lr{hint and '; ' + hint}"
            )
    return own, keys


def _settings_of(strategy: Any) -> set[str] | None:
    """Name the settings of a strategy; None where there is no such strategy, or it takes any."""
    try:
        found = KINDS["strategy"].settings(strategy)
    except (ExperimentError, TypeError):
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in found.values()) else set(found)


def _expand_lists(
    description: dict[str, Any], outer: Sequence[list[str]] = ()
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    found = list(_axes(description))
    for path, choices in found:
        key = ".".join(path)
        if not choices:
            raise ExperimentError(f"{key}: an empty list leaves nothing to run")
        if path in outer:
            raise ExperimentError(f"{key}: got {shown(choices)} as one of several values; allowed are single values")
    axes = [(path, list(zip(distinct_texts(choices), choices, strict=True))) for path, choices in found]
    for values in itertools.product(*(choices for _, choices in axes)):
        point = _copy(description)
        chosen = {}
        for (path, _), (text, value) in zip(axes, values, strict=True):
            _place(point, path, value)
            chosen[".".join(path)] = text
        # A value that a list offered may hold lists of its own, such as strategy: [{name: …, order: [atc, cta]}].
        if axes and any(True for _ in _axes(point)):
            for inner, leaf in _expand_lists(point, [*outer, *(path for path, _ in axes)]):
                yield {**chosen, **inner}, leaf
        else:
            yield chosen, point


def _axes(description: Mapping[str, Any]) -> Iterable[tuple[list[str], list[Any]]]:
    """Find the keys with several values."""
    for key, value in description.items():
        if key in _LISTS or (key == "task" and is_list_of_samples(value)):
            continue
        if isinstance(value, list):
            yield [key], value
        elif isinstance(value, Mapping):
            yield from _nested_axes(key, value)


def _nested_axes(key: str, given: Mapping[str, Any]) -> Iterable[tuple[list[str], list[Any]]]:
    for inner, value in given.items():
        nested = NESTED.get(key, {}).get(inner)
        if nested and isinstance(value, Mapping):
            for deep, choices in value.items():
                if isinstance(choices, list) and not is_list_setting(KINDS[nested], value, deep):
                    yield [key, inner, deep], choices
        elif isinstance(value, list) and not (key in KINDS and is_list_setting(KINDS[key], given, inner)):
            yield [key, inner], value


def _copy(value: Any) -> Any:
    """Copy the mappings, but not the user's objects in them."""
    return {str(k): _copy(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _place(description: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value at a dotted key; a component on the way that is given by its name becomes a mapping."""
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


def _lay(point: dict[str, Any], key: str, value: Any) -> None:
    """Lay a value over the experiment."""
    point.pop(_INSTEAD.get(key, ""), None)
    _place(point, key.split("."), value)


def _frozen(value: Any) -> Hashable:
    """Turn a value into what equal ones have in common; an object of the user's own is equal to itself alone."""
    if isinstance(value, Mapping):
        return ("mapping", *((str(key), _frozen(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(_frozen, value))
    plain = value is None or isinstance(value, bool | int | float | str)
    return (type(value).__name__, value if plain else id(value))


class _Parser:
    """Reads points of a grid, of which those that have a value in common share what is made of it."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, Hashable], Any] = {}

    def parse(self, point: Mapping[str, Any]) -> Config:
        """Validate a point."""
        places = {key: (key, _frozen(point[key]) if key in point else None) for key in Config.model_fields}
        known = {key: self.known[place] for key, place in places.items() if place in self.known}
        config = Config.parse({**point, **known})
        for key, place in places.items():
            self.known.setdefault(place, getattr(config, key))
        return config


class _Names:
    """Gives runs names of their own, also where upper and lower case are the same."""

    def __init__(self) -> None:
        self.given: dict[str, Config] = {}

    def give(self, name: str, config: Config) -> str:
        """Return the name, with a number where another run has it."""
        place, number = name, 1
        while (other := self.given.setdefault(place.casefold(), config)) is not config:
            if other.describe() == config.describe():
                raise ExperimentError(f"{name}: two runs of the grid are the same")
            number += 1
            place = f"{name}-{number}"
        return place
