"""Components of an experiment: a name, a `module:attribute`, or the user's own object, with settings.

A component is made by a callable. Parameters of the callable that the simulator supplies (the number of agents,
the shape of the data, …) are recognised by name; all others are settings, and its signature says what they may
be.
"""

import difflib
import importlib
import inspect
import logging
import math
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticCustomError

from basinet.sim.experiment.digest import digest, installed, name_of, plain
from basinet.sim.experiment.mistakes import ExperimentError, first_line, place_of, shown, user_code

__all__ = [
    "BOOLEAN",
    "DIGESTS",
    "NUMBER",
    "Change",
    "Component",
    "ExperimentError",
    "Kind",
    "changes",
    "nearest",
    "sentence",
]

_log = logging.getLogger(__name__)

_MOST_SHOWN = 60  # a module may have hundreds of names

DIGESTS = ("digest", "code_digest")
"""Keys of a description by which content and code of the user's are told."""

_NAMED = re.compile(r"(?P<name>\S+:\S+)( (?P<digest>[0-9a-f]{16}(-\S+)?))?")
"""How `plain` writes an object that is a setting."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Suggest the allowed word nearest to a wrong one.

    Args:
        word: What was given.
        allowed: What would have been right.

    Returns:
        The end of a sentence: the allowed words, or the nearest of very many, and a suggestion.

    Example:
        >>> nearest("rign", ["ring", "star"])
        "allowed: ring, star; did you mean 'ring'?"
    """
    allowed = list(allowed)
    close = difflib.get_close_matches(str(word), allowed, n=5, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    if len(allowed) > _MOST_SHOWN:
        near = f"the nearest {', '.join(close)}" if close else "none of which is similar"
        return f"allowed: {len(allowed)} names, {near}{hint}"
    return f"allowed: {', '.join(allowed)}{hint}"


def sentence(error: ValidationError, path: str, names: Iterable[str]) -> str:
    """Turn the complaint of pydantic into a sentence.

    Args:
        error: The complaint.
        path: Dotted key of what was validated, "" at the top.
        names: Keys that are allowed there.

    Returns:
        One sentence.
    """
    first = max(
        error.errors(), key=lambda complaint: len(complaint["loc"])
    )  # of alternatives the one that came furthest
    where = ".".join(
        [path] * bool(path) + [str(part) for part in first["loc"] if part != "component"][: 1 if path else 2]
    )
    word = str(first["loc"][0]) if first["loc"] else path
    if first["type"] == "extra_forbidden":
        owner = path or "the experiment"
        return f"{where}: {owner} has no key '{word}'; {nearest(word, names)}"
    if first["type"] == "missing":
        return f"{where}: a value is needed"
    if isinstance(first.get("ctx", {}).get("error"), ValueError):
        message = str(first["ctx"]["error"])
        return message if message.startswith(word) else f"{where}: {message}"
    if "Sequence" in first["msg"] or first["type"] in ("list_type", "tuple_type"):
        return f"{where}: got {shown(first['input'])}, where a list is needed, such as [{shown(first['input'])}]"
    if first["type"] in ("dataclass_type", "mapping_type", "model_type"):
        return f"{where}: got {shown(first['input'])}, where a name or a mapping is needed"
    if first["type"] == "too_short":
        return f"{where}: got {shown(first['input'])}, where more values are needed"
    message = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"{where}: got {shown(first['input'])}, which {message}"


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of component: topology, strategy, optimizer and so on.

    Attributes:
        key: Its key in an experiment.
        registry: Built-in makers by name.
        supplied: Parameters that the simulator supplies.
        ready: Whether an object is itself such a component, not the maker of one.
        reserved: Tells which parameters of a maker are no settings, although they have defaults.
        bounds: Tells the bounds of settings whose maker declares none in its signature.
        noun: What one such component is called; by default as its key.
    """

    key: str
    registry: Mapping[str, Callable[..., Any]]
    supplied: tuple[str, ...] = ()
    ready: Callable[[Any], bool] = field(default=lambda _: False)
    reserved: Callable[[Any], tuple[str, ...]] = field(default=lambda _: ())
    bounds: Callable[[Any], Mapping[str, Any]] = field(default=lambda _: {})
    noun: str = ""

    def parse(self, given: Any) -> "Component":
        """Read a component from what a user wrote.

        Args:
            given: A name, a `module:attribute`, a mapping with `name` and settings, a class or function, or a
                ready object.

        Returns:
            The component, its settings validated.

        Raises:
            ExperimentError: There is no such component, or a setting is wrong.
        """
        if isinstance(given, Component):
            return given
        settings: dict[str, Any] = {}
        known: dict[str, Any] = {}
        if isinstance(given, Mapping):
            settings = dict(given)
            if "name" not in settings:
                raise ExperimentError(f"{self.key}.name: a mapping needs the key 'name'; {nearest('', self.registry)}")
            given = settings.pop("name")
            known = {word: settings.pop(word) for word in DIGESTS if word in settings}
            if known:
                settings.pop("label", None)
        target, name = self._find(given)
        if self.ready(target):
            if settings:
                raise ExperimentError(
                    f"{self.key}.{next(iter(settings))}: {name} is given ready-made and takes no settings"
                )
            return _unchanged(Component(self, name, target, {}, is_ready=True), known)
        if not callable(target):
            raise ExperimentError(
                f"{self.key}: got {shown(given)}; allowed are a name ({', '.join(self.registry)}), a module:attribute, "
                "a mapping with 'name', or an object of your own"
            )
        return _unchanged(Component(self, name, target, self._validate(target, name, settings)), known)

    def settings(self, given: Any) -> dict[str, inspect.Parameter]:
        """Find what may be set of a component.

        Args:
            given: As for `parse`, but no mapping.

        Returns:
            Parameters of its maker by name, with annotations and defaults; none where it is ready-made.

        Raises:
            ExperimentError: There is no such component.
        """
        target, _ = self._find(given)
        if self.ready(target):
            return {}
        return _settings(target, self.supplied, self.reserved(target))

    def _find(self, given: Any) -> tuple[Any, str]:
        """Find what a name stands for."""
        if not isinstance(given, str):
            return given, name_of(given)
        if given in self.registry:
            return self.registry[given], given
        if ":" not in given:
            noun, choice = self.noun or self.key, nearest(given, self.registry)
            raise ExperimentError(f"{self.key}: there is no {noun} {shown(given)}; {choice}")
        return _import(given, self.key), given

    def _validate(self, target: Callable[..., Any], name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Check settings against the signature of their maker."""
        model, names = _settings_model(target, self)
        try:
            checked = model.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "missing":
                word = first["loc"][0]
                raise ExperimentError(f"{self.key}.{word}: {name} needs the setting '{word}'") from None
            if first["type"] == "extra_forbidden":
                word = first["loc"][0]
                if word in self.reserved(target):
                    raise ExperimentError(
                        f"{self.key}.{word}: the simulator gives {name} its '{word}'; allowed: {', '.join(names)}"
                    ) from None
                choice = nearest(str(word), names) if names else "it takes none"
                raise ExperimentError(f"{self.key}.{word}: {name} has no setting '{word}'; {choice}") from None
            raise ExperimentError(sentence(error, self.key, names)) from None
        values = {info.alias or key: getattr(checked, key) for key, info in type(checked).model_fields.items()}
        given = {key: value for key, value in values.items() if key in settings}
        for key, value in (checked.model_extra or {}).items():
            if not _is_finite(value):
                raise ExperimentError(f"{self.key}.{key}: got {shown(value)}, which should hold finite numbers")
        return {**given, **(checked.model_extra or {})}


@dataclass(frozen=True)
class Component:
    """A chosen component and its settings.

    Attributes:
        kind: What it is for.
        name: How it was named.
        target: Its maker, or the ready object.
        settings: What the user set.
        is_ready: Whether `target` is the thing itself.
    """

    kind: Kind
    name: str
    target: Any
    settings: dict[str, Any]
    is_ready: bool = False

    def make(self, **supplied: Any) -> Any:
        """Make the component.

        Args:
            **supplied: What the simulator knows; the maker gets what it has a parameter for.

        Returns:
            What the maker returns, or the ready object.

        Raises:
            ExperimentError: The maker refused its settings, or is the user's own and raised anything.
        """
        if self.is_ready:
            return self.target
        accepted = _parameters(self.target)
        known = {k: v for k, v in supplied.items() if k in accepted and k not in self.settings}
        with user_code(self):
            return self.target(**known, **self.settings)

    @property
    def is_own(self) -> bool:
        """Whether the user has brought it: it is none of the built-in ones, nor made of them."""
        owner = self.target if hasattr(self.target, "__qualname__") else type(self.target)
        built_in = any(self.target is known for known in self.kind.registry.values())
        return not built_in and not str(owner.__module__).startswith("basinet.")

    def takes(self, name: str) -> bool:
        """Tell whether the maker has a parameter.

        Args:
            name: The parameter.

        Returns:
            Whether it does.
        """
        return not self.is_ready and name in _parameters(self.target)

    def needs(self, name: str) -> bool:
        """Tell whether the maker has a parameter that takes whole numbers only, not None.

        Args:
            name: The parameter.

        Returns:
            Whether it does.
        """
        parameter = None if self.is_ready else _parameters(self.target).get(name)
        return parameter is not None and parameter.annotation is int

    def describe(self) -> dict[str, Any]:
        """Describe the component in plain values.

        Returns:
            Its name, its settings and the defaults of those not set; a ready object comes with a `digest` of its
            content, and with its own name, if it has one, as a `label`; what is not installed with a `code_digest`.
        """
        return dict(self._description)

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings that the user set to something else than their defaults, in plain values."""
        defaults = {} if self.is_ready else _parameters(self.target)
        told = {key: plain(parameter.default) for key, parameter in defaults.items() if key in self.settings}
        return {key: plain(v) for key, v in self.settings.items() if key not in told or told[key] != plain(v)}

    def brief(self) -> str | dict[str, Any]:
        """Describe the component in plain values, as briefly as it could have been given.

        Returns:
            Its name, or a mapping with what was set; as `describe` where it is ready-made.
        """
        if self.is_ready:
            return self.describe()
        return {"name": self.name, **self.chosen} if self.chosen else self.name

    @cached_property
    def _description(self) -> dict[str, Any]:
        if self.is_ready:
            label = getattr(self.target, "name", None)  # as that of a graph
            own = {"label": label} if isinstance(label, str) and label else {}
            return {"name": self.name, "digest": digest(self.target), **own}
        defaults = {
            key: parameter.default
            for key, parameter in _parameters(self.target).items()
            if key not in (*self.kind.supplied, *self.kind.reserved(self.target))
            and isinstance(parameter.default, bool | int | float | str | tuple)
        }
        known = {} if installed(self.target) else {"code_digest": digest(self.target)}
        return {"name": self.name, **known, **plain(defaults | self.settings)}


class Change(NamedTuple):
    """A difference between two descriptions.

    Attributes:
        sentence: What has changed in an object or in code of the user's; empty where other keys or values differ.
        sure: Whether it has; else it is told in ways that cannot be compared.
    """

    sentence: str = ""
    sure: bool = True


def changes(key: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare what a run was described by with what it is described by now.

    Args:
        key: Dotted key of what is compared.
        old: A description, or a part of one, such as `Component.describe` gives.
        new: The same now.

    Yields:
        The differences.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        name = next((new[word] for word in ("name", "run") if old.get(word) == new.get(word) is not None), None)
        for word in dict.fromkeys([*old, *new]):
            if word not in DIGESTS or name is None:
                yield from changes(f"{key}.{word}", old.get(word), new.get(word))
            elif old.get(word) != new.get(word):
                yield _change(key, name, old.get(word), new.get(word))
    elif old != new:
        before, now = (_NAMED.fullmatch(str(value)) for value in (old, new))
        if before and now and before["name"] == now["name"]:
            yield _change(key, before["name"], before["digest"], now["digest"])
        else:
            yield Change()


def _change(key: str, name: str, old: str | None, new: str | None) -> Change:
    if _how_told(old) != _how_told(new):
        return Change(
            f"{key}: whether {name} has changed since the run was begun cannot be told: it was recorded by"
            f" {_how_told(old)}, and is now known by {_how_told(new)}",
            sure=False,
        )
    note = f" (it is known by {_how_told(new)})" if "-" in str(new) and not str(new).endswith("-source") else ""
    return Change(
        f"{key}: {name} has changed since the run was begun: its content, its code, or code of yours that it uses{note}"
    )


def _how_told(known: str | None) -> str:
    if known is None:
        return "its name alone"
    how = known.partition("-")[2]
    return f"the byte code of {how}, for want of its source" if how not in ("", "source") else f"its {how or 'content'}"


def _unchanged(component: Component, known: Mapping[str, str]) -> Component:
    """Check that a component read back from a run's folder is still what it was."""
    key, name = component.kind.key, component.name
    if "digest" in known and not component.is_ready:
        raise ExperimentError(
            f"{key}: {name} was given as an object from Python, which the folder of a run does not hold"
        )
    now = component.describe() if known else {}
    for word, before in known.items():
        if now.get(word) != before:
            change = _change(key, name, before, now.get(word))
            raise ExperimentError(f"{change.sentence}; --fresh (fresh=True) starts the run anew")
    return component


def is_list_setting(kind: Kind, given: Mapping[str, Any], key: str) -> bool:
    """Tell whether a setting takes the given list as one value (else it is an axis of a grid).

    Args:
        kind: The kind of component.
        given: The component as written.
        key: The setting.

    Returns:
        Whether the list itself is meant as a value.
    """
    try:
        target, _ = kind._find(given.get("name"))
        model, _ = _settings_model(target, kind)
    except (ExperimentError, TypeError, ValueError):
        return False
    for info in model.model_fields.values():
        if info.alias == key and info.annotation is not None:
            adapter = TypeAdapter(info.annotation, config=ConfigDict(arbitrary_types_allowed=True))
            # What is wrong as a list and in its parts is a list that holds something wrong.
            whole = _allows(adapter, given[key]) or not any(_allows(adapter, part) for part in given[key])
            return whole and info.annotation is not Any
    return False


def _allows(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


@cache
def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Read a signature, with its annotations evaluated where they can be."""
    try:
        return inspect.signature(target, eval_str=True).parameters
    except NameError:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


def _settings(
    target: Callable[..., Any], supplied: tuple[str, ...], reserved: tuple[str, ...]
) -> dict[str, inspect.Parameter]:
    """Choose the parameters of a maker that are settings: how many agents there are, the topology alone tells."""
    return {
        name: parameter
        for name, parameter in _parameters(target).items()
        if parameter.kind is not parameter.VAR_POSITIONAL
        and name not in reserved
        and not (name in supplied and (name == "num_agents" or parameter.default is parameter.empty))
    }


_LARGEST = float(np.finfo(np.float32).max)
"""More than that no parameter can be multiplied by in either floating type of a run."""

_INT64 = Field(ge=-(2**63), le=2**63 - 1)


def _check_type(value: Any) -> Any:
    if isinstance(value, bool | np.bool_ | str):
        raise PydanticCustomError("number_type", "Input should be a number")
    return value


def _check_number(value: Any) -> Any:
    if isinstance(_check_type(value), int | float | np.number) and not abs(value) <= _LARGEST:
        if value != value or abs(value) == math.inf:
            raise PydanticCustomError("finite_number", "Input should be a finite number")
        raise PydanticCustomError("large_number", f"Input should be at most {_LARGEST:.3g} in size")
    return value


def _is_finite(value: Any) -> bool:
    """Return whether a value holds no number that is infinite or none, as far as it is plain."""
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float | np.floating) or math.isfinite(value)


def _check_finite(value: Any) -> Any:
    if not _is_finite(value):
        raise PydanticCustomError("finite_number", "Input should hold finite numbers")
    return value


def _check_boolean(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise PydanticCustomError("boolean_type", "Input should be true or false")
    return bool(value)


NUMBER, BOOLEAN = BeforeValidator(_check_number), BeforeValidator(_check_boolean)
"""Let pydantic take no boolean for a number, only finite numbers, and nothing else than a boolean for one."""


def _exact(annotation: Any, bounds: tuple[Any, ...] = ()) -> Any:
    """Complete a type of a signature, also in its parts: numbers are finite, and no booleans.

    Args:
        annotation: The type; `Annotated[float, Field(allow_inf_nan=True)]` takes any float.
        bounds: Bounds of its floats.

    Returns:
        The type that is checked.
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is float:
        return Annotated[(float, *bounds, NUMBER)]
    if annotation is int:
        return Annotated[int, _INT64, NUMBER]
    if origin is Literal and int in map(type, parts):
        return Annotated[annotation, NUMBER]
    if annotation is bool:
        return Annotated[bool, BOOLEAN]
    if annotation is Any:
        return Annotated[Any, BeforeValidator(_check_finite)]
    if origin is Annotated:
        if parts[0] not in (int, float):
            return Annotated[(_exact(parts[0]), *parts[1:])]
        said = [constraint for part in parts[1:] for constraint in (part, *getattr(part, "metadata", ()))]
        any_float = any(getattr(constraint, "allow_inf_nan", None) for constraint in said)
        # What comes last is looked at first.
        last = BeforeValidator(_check_type) if any_float else NUMBER
        return Annotated[(parts[0], *([_INT64] if parts[0] is int else []), *parts[1:], last)]
    if origin in (Union, types.UnionType):
        return Union[tuple(_exact(part, bounds) for part in parts)]  # noqa: UP007
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return origin[tuple(_exact(part, bounds) for part in parts)]  # type: ignore[index]
    return annotation


@cache
def _settings_model(target: Callable[..., Any], kind: Kind) -> tuple[type[BaseModel], list[str]]:
    """Build a model that validates the settings of a maker, and list their names."""
    fields: dict[str, Any] = {}
    names: list[str] = []
    extra: Any = "forbid"
    bounds = kind.bounds(target)
    for name, parameter in _settings(target, kind.supplied, kind.reserved(target)).items():
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
            continue
        required = parameter.default is parameter.empty
        evaluated = parameter.annotation is not parameter.empty and not isinstance(parameter.annotation, str)
        annotation = _exact(parameter.annotation if evaluated else Any, (bounds[name],) if name in bounds else ())
        # The alias keeps a setting apart from the attributes of a pydantic model.
        fields[f"field_{len(names)}"] = (
            annotation,
            Field(... if required else parameter.default, alias=name),
        )
        names.append(name)
    config = ConfigDict(extra=extra, arbitrary_types_allowed=True)
    return create_model(getattr(target, "__name__", "Settings"), __config__=config, **fields), names


def _import(path: str, key: str) -> Any:
    """Import `module:attribute`; a module beside the user's experiment is found too."""
    module, _, attribute = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if module not in sys.modules:  # the name may come from a folder of somebody else's
        _log.warning("%s: importing %s, which runs its code", key, module)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's module does when it is imported
        reason = f"{first_line(error)}{place_of(error)}"
        raise ExperimentError(f"{key}: the module of '{path}' cannot be imported: {reason}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if not name.startswith("_")]
            raise ExperimentError(f"{key}: {module} has no attribute '{part}'; {nearest(part, public)}")
        found = getattr(found, part)
    return found
