"""Words of a command line: names, and overrides `key=value` of a description."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from basinet.sim.experiment import yaml_files
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.grids.exclusions import agrees
from basinet.sim.experiment.grids.grid import INSTEAD, place, split_strategy
from basinet.sim.experiment.grids.ranges import choices
from basinet.sim.experiment.mistakes import shown

__all__ = ["as_typed", "override", "split_words"]


def split_words(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split words into names and settings.

    Args:
        words: The words.

    Returns:
        The names, and the words `key=value`.
    """
    words = list(words)
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def override(description: dict[str, Any], words: Iterable[str]) -> None:
    """Override values of a description by words of a command line; its text `about` says so from then on.

    Args:
        description: Keys and values, changed in place.
        words: Dotted keys and values, `key=value`; a value is read as YAML, and commas outside brackets and quotes make
            a list.

    Raises:
        ExperimentError: A word does not have this form, or would undo another.
    """
    typed: dict[str, str] = {}
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ExperimentError(f"{word}: an override is written key=value")
        instead = INSTEAD.get(key, ())
        others = [other for other in instead if values.get(other) is not None]
        undone = next((k for k in typed if k in (key, *others) or k.startswith(f"{key}.")), None)
        if undone is not None:
            remedy = "give one of them" if undone in (key, *others) else "give it first"
            raise ExperimentError(f"{word}: it would undo {undone}={typed[undone]}; {remedy}")
        typed[key] = text
        value = _read_word(key, text)
        # The command line takes precedence over cases, axes and strategies.
        axes = _mappings(description.get("axes"))
        tuned = [description["tune"]] if isinstance(description.get("tune"), dict) else []
        overlays = [*_mappings(description.get("cases")), *axes, *_strategies(description, key)]
        overlays += tuned if key != "replicas" else []  # which tune has, too
        for mapping in (description, *overlays):
            for other in instead:
                mapping.pop(other, None)
        for overlay in overlays:
            _lay_over(overlay, key, value)
        if key.startswith("tune.") and tuned:  # whose keys may be dotted
            tuned[0].pop(key.removeprefix("tune."), None)
        place(description, key.split("."), value)
        if key.partition(".")[0] != "axes":
            _forget_empty_axes(description)
        values[key] = value
    if "exclude" not in values:
        _forget_exclusions(description, values)
    typed = {key: text for key, text in typed.items() if key.partition(".")[0] != "loggers"}  # which no folder records
    about = description.get("about")
    if typed and "about" not in typed and isinstance(about, str):
        changes = ", ".join(f"`{key}={text}`" for key, text in typed.items())
        description["about"] = f"Changed here: {changes}. What follows is about the experiment as it comes.\n\n{about}"


def _forget_empty_axes(description: dict[str, Any]) -> None:
    """Remove the named axes all of whose keys are set otherwise now."""
    axes = description.get("axes")
    if isinstance(axes, dict) and axes:
        description["axes"] = {name: keys for name, keys in axes.items() if keys != {}} or None


def _forget_exclusions(description: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Remove the exclusions of values that a key has no longer."""
    given = description.get("exclude")
    listed = [given] if isinstance(given, Mapping) else given if isinstance(given, list) else []

    def possible(key: str, wanted: Any) -> bool:
        for word, value in values.items():
            if word.removesuffix(".name") == str(key).removesuffix(".name"):
                present, asked = choices(word, value), choices(key, wanted)
                return any(agrees(one, wanted if asked is None else asked) for one in present or [value])
        return True

    left = [one for one in listed if not isinstance(one, Mapping) or all(possible(*pair) for pair in one.items())]
    if len(left) < len(listed):
        description["exclude"] = left or None


def _read_word(key: str, text: str) -> Any:
    """Parse the value of a word."""
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
    """Parse comma-separated values."""
    try:
        values = yaml_files.load(f"[{text}]") if "," in text else None
    except ValueError:
        return None
    return values if isinstance(values, list) else None


def as_typed(message: str, words: Iterable[str], path: str | Path) -> str:
    """Prefix a message with the word that chose a component, if the file sets something the component does not have.

    Args:
        message: An error message about the experiment.
        words: The overrides.
        path: Path of the experiment's file.

    Returns:
        The message, prefixed if a word is the cause.
    """
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
    """Apply an override in a case, too."""
    case.pop(key, None)
    if any(isinstance(choice, Mapping) for choice in (value if isinstance(value, list) else [value])):
        for setting in [name for name in case if str(name).startswith(f"{key}.")]:
            del case[setting]
    words = key.split(".")
    for depth in range(1, len(words)):
        whole = ".".join(words[:depth])
        if whole in case:
            place(case, [whole, *words[depth:]], value)


def _strategies(description: Mapping[str, Any], key: str) -> list[dict[Any, Any]]:
    """Find the strategies whose mappings set a key of the experiment."""
    places = [description, *_mappings(description.get("cases"))]
    given = [place.get("strategy") for place in places]
    choices = [choice for value in given for choice in (value if isinstance(value, list) else [value])]
    return [choice for choice in choices if isinstance(choice, dict) and key not in split_strategy(choice)[0]]


def _mappings(cases: Any) -> list[dict[Any, Any]]:
    return [case for case in cases.values() if isinstance(case, dict)] if isinstance(cases, dict) else []
