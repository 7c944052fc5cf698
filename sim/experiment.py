"""The experiment: a description from a YAML file, from `key=value`, or from Python objects, and its grid of runs.

A list where one value is wanted makes a grid; `cases` lays named sets of values over the experiment, for keys
that change together. Every point of the grid is a `Config`: one run.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from basinet.sim import yaml_files
from basinet.sim.component import ExperimentError, is_list_setting
from basinet.sim.config import DEFAULTS, KINDS, NESTED, Config

__all__ = ["Experiment", "override"]


_LISTS = frozenset(name for name, field in Config.model_fields.items() if get_origin(field.annotation) is tuple)
"""Keys whose values are lists themselves, and make no grid."""


class Experiment:
    """A description and the runs that it stands for.

    Args:
        description: Keys and values: see `Config` for the keys; `cases`, a mapping from a case's name to values
            that are laid over the experiment in that case; and `about`, a text for the report.
        **values: The same as keywords.

    Attributes:
        description: The experiment as given.
        runs: Configuration of each run, by its name.

    Raises:
        ExperimentError: Something in it is not allowed; the message is one sentence.

    Example:
        >>> e = Experiment(task="digits", topology={"name": "ring", "agents": 4}, strategy=["isolated", "diffusion"])
        >>> list(e.runs)
        ['isolated', 'diffusion-atc']
    """

    def __init__(self, description: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        self.description = {**(description or {}), **values}
        self.runs: dict[str, Config] = {}
        for axes, point in _expand(self.description):
            config = Config.parse(point)
            name = _run_name(config, axes)
            if name in self.runs:
                raise ExperimentError(f"{name}: two runs of the grid are the same")
            self.runs[name] = config

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
        instead = {"steps": "epochs", "epochs": "steps"}.get(key)
        undone = next((k for k in typed if k in (key, instead) or k.startswith(f"{key}.")), None)
        if undone is not None:
            remedy = "give one of them" if undone in (key, instead) else "give it first"
            raise ExperimentError(f"{word}: it would undo {undone}={typed[undone]}; {remedy}")
        typed[key] = text
        value = _read_word(key, text)
        # What is asked for on the command line goes before what a case sets.
        for place in (description, *_mappings(description.get("cases"))):
            place.pop(instead, None)
        for case in _mappings(description.get("cases")):
            _lay_over(case, key, value)
        _place(description, key.split("."), value)


def _read_word(key: str, text: str) -> Any:
    """Read the value of a word."""
    try:
        value = yaml_files.load(text)
    except ValueError as error:
        value = _read_list(text)
        if value is None:
            raise ExperimentError(f"{key}: the value {text!r} is not YAML that can be read: {error}") from None
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


def _mappings(cases: Any) -> list[dict[Any, Any]]:
    return [case for case in cases.values() if isinstance(case, dict)] if isinstance(cases, dict) else []


def _expand(description: Mapping[str, Any]) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the points of the grid: the values on its axes, and the whole description at the point."""
    base = dict(description)
    base.pop("about", None)
    cases = base.pop("cases", None)
    if cases is not None and not (isinstance(cases, Mapping) and all(isinstance(c, Mapping) for c in cases.values())):
        raise ExperimentError("cases: allowed is a mapping from names to mappings of keys to values")
    for name, values in (cases or {None: {}}).items():
        point = _copy(base)
        if name is not None:
            point["case"] = str(name)
        for key, value in values.items():
            _place(point, str(key).split("."), value)
        yield from _expand_lists(point)


def _expand_lists(description: dict[str, Any]) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
    axes = list(_axes(description))
    for values in itertools.product(*(choices for _, choices in axes)):
        point = _copy(description)
        chosen = {}
        for (path, _), value in zip(axes, values, strict=True):
            _place(point, path, value)
            chosen[".".join(path)] = value
        # A value that a list offered may hold lists of its own, such as strategy: [{name: …, order: [atc, cta]}].
        deeper = list(_axes(point))
        if deeper:
            for inner, leaf in _expand_lists(point):
                yield {**chosen, **inner}, leaf
        else:
            yield chosen, point


def _axes(description: Mapping[str, Any]) -> Iterable[tuple[list[str], list[Any]]]:
    """Find the keys with several values."""
    for key, value in description.items():
        if key in _LISTS:
            continue
        if isinstance(value, list):
            if not value:
                raise ExperimentError(f"{key}: an empty list leaves nothing to run")
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


def strategy_name(config: Config) -> str:
    """Name a run's strategy, with its order where it has one, and the settings that are not its defaults.

    Args:
        config: The run.

    Returns:
        A name such as "diffusion-atc".
    """
    described = config.strategy.describe()
    name = str(described.pop("name")).split(":")[-1]
    kept = ("order", *config.strategy.settings)
    words = [str(v) if key == "order" else f"{key}={v}" for key, v in described.items() if key in kept]
    return "-".join([name, *words])


def _run_name(config: Config, axes: Mapping[str, Any]) -> str:
    """Name a run by its strategy, its case, and the values on the other axes of the grid."""
    parts = [strategy_name(config)]
    if config.case is not None:
        parts.append(config.case)
    for key, value in axes.items():
        if key.split(".")[0] == "strategy" and key in ("strategy", "strategy.order"):
            continue
        if isinstance(value, Mapping):
            value = "-".join(str(v) for v in value.values())
        parts.append(f"{key.split('.')[-1]}={value if isinstance(value, bool | int | float | str) else _short(value)}")
    name = "_".join(parts)
    return "".join(c if c.isalnum() or c in "-_=.+" else "-" for c in name)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(str(v) for v in value)
    return str(getattr(value, "__name__", type(value).__name__))
