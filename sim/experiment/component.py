"""Components of an experiment: a name, a `module:attribute`, or the user's own object, with settings.

A component is made by a callable. Those of its parameters that the simulator supplies (the number of agents, the shape
of the data, …) are recognised by name; all others are settings, constrained by its signature.
"""

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from basinet.sim.experiment.changes import DIGESTS, change_of
from basinet.sim.experiment.digest import digest, installed, name_of, plain
from basinet.sim.experiment.mistakes import ExperimentError, first_line, nearest, place_of, shown, user_code
from basinet.sim.experiment.signatures import is_finite, means_list, parameters, sentence, settings_in, settings_model
from basinet.sim.experiment.source import is_installed

__all__ = [
    "Component",
    "ExperimentError",
    "Kind",
    "extend_path",
    "homes",
    "is_list_setting",
    "look_in",
    "nearest",
    "own_modules",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of component: topology, strategy, optimizer and so on.

    Attributes:
        key: Its key in an experiment.
        registry: Built-in makers by name.
        supplied: Parameters that the simulator supplies.
        ready: Whether an object is itself such a component rather than its maker.
        reserved: Returns the parameters of a maker that are not settings although they have defaults.
        bounds: Returns the bounds of settings whose maker declares none in its signature.
        beside: Returns the settings that the simulator handles itself, in addition to those in the maker's signature.
        noun: What to call such a component; by default, its key.
        files: Settings that name a file, whose content counts as the component's.
        usual: The name if settings alone are given.
        short: Names that stand for a component with settings, as `parse` takes it.
    """

    key: str
    registry: Mapping[str, Callable[..., Any]]
    supplied: tuple[str, ...] = ()
    ready: Callable[[Any], bool] = field(default=lambda _: False)
    reserved: Callable[[Any], tuple[str, ...]] = field(default=lambda _: ())
    bounds: Callable[[Any], Mapping[str, Any]] = field(default=lambda _: {})
    beside: Callable[[Any], Mapping[str, inspect.Parameter]] = field(default=lambda _: {})
    noun: str = ""
    files: tuple[str, ...] = ()
    usual: str | None = None
    short: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def parse(self, given: Any) -> "Component":
        """Parse a component.

        Args:
            given: A name, a `module:attribute`, a mapping with `name` and settings, a class or function, or a
                ready object.

        Returns:
            The component, with validated settings.

        Raises:
            ExperimentError: The component does not exist, or a setting is wrong.
        """
        if isinstance(given, Component):
            return given
        settings: dict[str, Any] = {}
        known: dict[str, Any] = {}
        if isinstance(given, Mapping):
            settings = dict(given)
            given = settings.pop("name", self.usual)
            if given is None:
                raise ExperimentError(f"{self.key}.name: a mapping needs the key 'name'; {nearest('', self.registry)}")
            known = {word: settings.pop(word) for word in DIGESTS if word in settings}
            if known:
                settings.pop("label", None)
        if isinstance(given, str) and given in self.short:
            meant = dict(self.short[given])
            if twice := next((word for word in meant if word in settings), None):
                raise ExperimentError(f"{self.key}.{twice}: {given} says it already; allowed is to leave it out")
            settings |= meant
            given = settings.pop("name")
        target, name = self._find(given)
        if self.ready(target):
            if settings:
                raise ExperimentError(
                    f"{self.key}.{next(iter(settings))}: {name} is a ready-made object and takes no settings"
                )
            return _unchanged(Component(self, name, target, {}, is_ready=True), known)
        if not callable(target):
            raise ExperimentError(
                f"{self.key}: got {shown(given)}; allowed are a name ({', '.join(self.registry)}), a module:attribute, "
                "a mapping with 'name', or an object of your own"
            )
        return _unchanged(Component(self, name, target, self._validate(target, name, settings)), known)

    def settings(self, given: Any) -> dict[str, inspect.Parameter]:
        """Return the settings of a component.

        Args:
            given: As for `parse`, but not a mapping.

        Returns:
            Parameters of its maker by name, with annotations and defaults; none if it is ready-made.

        Raises:
            ExperimentError: The component does not exist.
        """
        target, _ = self._find(given)
        if self.ready(target):
            return {}
        return self._settings(target)

    def _settings(self, target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
        return {**settings_in(target, self.supplied, self.reserved(target)), **self.beside(target)}

    def _find(self, given: Any) -> tuple[Any, str]:
        """Look up the object and name of a component."""
        if not isinstance(given, str):
            return given, name_of(given)
        given = self.short.get(given, {}).get("name", given)
        if given in self.registry:
            return self.registry[given], given
        if ":" not in given:
            noun, choice = self.noun or self.key, nearest(given, [*self.registry, *self.short])
            raise ExperimentError(f"{self.key}: there is no {noun} {shown(given)}; {choice}")
        built_in, _, attribute = given.partition(":")
        if built_in.startswith("basinet."):
            for maker in self.registry.values():  # its module may have moved since a run recorded it
                if getattr(maker, "__qualname__", None) == attribute:
                    return maker, given
        return _import(given, self.key), given

    def _validate(self, target: Callable[..., Any], name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Validate settings against the signature of their maker."""
        model, names = _model_of(self, target)
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
                        f"{self.key}.{word}: the simulator supplies '{word}' to {name}; allowed: {', '.join(names)}"
                    ) from None
                choice = nearest(str(word), names) if names else "it takes none"
                raise ExperimentError(f"{self.key}.{word}: {name} has no setting '{word}'; {choice}") from None
            raise ExperimentError(sentence(error, self.key, names)) from None
        values = {info.alias or key: getattr(checked, key) for key, info in type(checked).model_fields.items()}
        given = {key: value for key, value in values.items() if key in settings}
        for key, value in (checked.model_extra or {}).items():
            if not is_finite(value):
                raise ExperimentError(f"{self.key}.{key}: got {shown(value)}, which should hold finite numbers")
        return {**given, **(checked.model_extra or {})}


@dataclass(frozen=True)
class Component:
    """A chosen component and its settings.

    Attributes:
        kind: Its kind.
        name: The name it was given by.
        target: Its maker, or the ready-made object.
        settings: The settings given by the user.
        is_ready: Whether `target` is the component itself.
    """

    kind: Kind
    name: str
    target: Any
    settings: dict[str, Any]
    is_ready: bool = False

    def make(self, **supplied: Any) -> Any:
        """Make the component.

        Args:
            **supplied: Values known to the simulator; the maker gets those that it has parameters for.

        Returns:
            The maker's result, or the ready-made object.

        Raises:
            ExperimentError: The maker rejected its settings, or is the user's own and raised anything.
        """
        if self.is_ready:
            return self.target
        accepted = parameters(self.target)
        known = {k: v for k, v in supplied.items() if k in accepted and k not in self.settings}
        with user_code(self):
            return self.target(**known, **self.settings)

    @property
    def key(self) -> str:
        """The component's key in the experiment."""
        return self.kind.key

    @property
    def is_own(self) -> bool:
        """Whether the user supplied it: it is not built in, nor an instance of a built-in class without user code."""
        if getattr(self.target, "runs_user_code", False):
            return True
        owner = self.target if hasattr(self.target, "__qualname__") else type(self.target)
        if str(owner.__module__).startswith("basinet."):
            return False
        return not any(self.target is known for known in self.kind.registry.values())

    def takes(self, name: str) -> bool:
        """Return whether the maker has a parameter.

        Args:
            name: The parameter.

        Returns:
            Whether it has it.
        """
        return not self.is_ready and name in parameters(self.target)

    def requires(self, name: str) -> bool:
        """Return whether the maker has a parameter without a default.

        Args:
            name: The parameter.

        Returns:
            Whether it has one.
        """
        return self.takes(name) and parameters(self.target)[name].default is inspect.Parameter.empty

    def needs(self, name: str) -> bool:
        """Return whether the maker has a parameter that only takes integers, not None.

        Args:
            name: The parameter.

        Returns:
            Whether it has one.
        """
        parameter = None if self.is_ready else parameters(self.target).get(name)
        return parameter is not None and parameter.annotation is int

    def describe(self) -> dict[str, Any]:
        """Describe the component in plain values.

        Returns:
            Its name and all settings, including defaults; for a ready-made object also a `digest` of its content and
            own name, if any, as a `label`; for a maker that is not installed, a `code_digest`.
        """
        return dict(self._description)

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings that the user set to other values than the defaults, in plain values."""
        defaults = {} if self.is_ready else parameters(self.target)
        usual = {key: plain(parameter.default) for key, parameter in defaults.items() if key in self.settings}
        return {key: plain(v) for key, v in self.settings.items() if key not in usual or usual[key] != plain(v)}

    def brief(self) -> str | dict[str, Any]:
        """Describe the component in plain values, in the shortest form in which it could have been given.

        Returns:
            Its name, or a mapping with the settings given; for a ready-made object, the same as `describe`.
        """
        if self.is_ready:
            return self.describe()
        return {"name": self.name, **self.chosen} if self.chosen else self.name

    @cached_property
    def _description(self) -> dict[str, Any]:
        if self.is_ready:
            label = getattr(self.target, "name", None)  # such as a graph's
            own = {"label": label} if isinstance(label, str) and label else {}
            return {"name": self.name, "digest": digest(self.target), **own}
        defaults = {
            key: parameter.default
            for key, parameter in parameters(self.target).items()
            if key not in (*self.kind.supplied, *self.kind.reserved(self.target))
            and isinstance(parameter.default, bool | int | float | str | tuple)
        }
        known = {} if installed(self.target) else {"code_digest": digest(self.target)}
        return {"name": self.name, **known, **self._content(), **plain(defaults | self.settings)}

    def _content(self) -> dict[str, str]:
        """Digest the content of its files, as far as they are there."""
        paths = [Path(self.settings[key]) for key in self.kind.files if key in self.settings]
        content = [path.read_bytes() for path in paths if path.is_file()]
        return {"digest": digest(content)} if content else {}


def _unchanged(component: Component, known: Mapping[str, str]) -> Component:
    """Raise unless a component read from a run folder is unchanged; return it."""
    key, name = component.kind.key, component.name
    if "digest" in known and not component.is_ready and not component.kind.files:
        raise ExperimentError(
            f"{key}: {name} was given as an object from Python, which the folder of a run does not hold"
        )
    now = component.describe() if known else {}
    for word, before in known.items():
        if now.get(word) != before:
            change = change_of(key, name, before, now.get(word))
            raise ExperimentError(f"{change.sentence}; --fresh (fresh=True) starts the run anew")
    return component


def is_list_setting(kind: Kind, given: Mapping[str, Any], key: str) -> bool:
    """Return whether a setting takes the given list as one value; otherwise, it is an axis of a grid.

    Args:
        kind: The kind of component.
        given: The component as written.
        key: The setting.

    Returns:
        Whether the list itself is the value.
    """
    try:
        target, _ = kind._find(given.get("name"))
        model, _ = _model_of(kind, target)
    except (ExperimentError, TypeError, ValueError):
        return False
    for info in model.model_fields.values():
        if info.alias == key and info.annotation is not None:
            return means_list(info.annotation, given[key])
    return False


@cache
def _model_of(kind: Kind, target: Callable[..., Any]) -> tuple[type[BaseModel], list[str]]:
    return settings_model(getattr(target, "__name__", "Settings"), kind._settings(target), kind.bounds(target))


_homes: list[str] = []
"""Folders in which the user's modules are looked for, the last one first, before the current folder."""


def look_in(*folders: str | Path) -> None:
    """Let the user's modules be found in some folders, such as that of an experiment.

    Args:
        *folders: The folders.
    """
    for folder in map(str, map(Path.resolve, map(Path, folders))):
        if folder not in _homes:
            _homes.append(folder)


def extend_path(*folders: str) -> tuple[str, ...]:
    """Let Python import the user's modules: those beside an experiment, and those in the current folder.

    Args:
        *folders: Folders to look in, too, such as those of another process.

    Returns:
        All folders besides the current one.
    """
    look_in(*folders)
    for folder in (os.getcwd(), *_homes):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    return tuple(_homes)


def own_modules() -> list[Path]:
    """Find the user's imported modules: those beside an experiment or its script, or in the current folder.

    Returns:
        The files of modules, and the folders of packages.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    places = {Path(place).resolve() for place in (os.getcwd(), *_homes)}
    if isinstance(script, str):
        places.add(Path(script).resolve().parent)
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or "." in name or name in ("__main__", "__mp_main__") or is_installed(name):
            continue
        path = Path(file).resolve()
        path = path.parent if path.stem == "__init__" else path
        if path.parent in places:
            found.add(path)
    return sorted(found)


def homes(description: Any) -> set[Path]:
    """Find the folders of the user's modules that an experiment names.

    Args:
        description: The experiment, or a run's, in plain values.

    Returns:
        The folders in which Python has found them.
    """
    if isinstance(description, Mapping):
        return set().union(*map(homes, description.values()))
    if isinstance(description, list | tuple):
        return set().union(*map(homes, description))
    module, colon, _ = description.partition(":") if isinstance(description, str) else ("", "", "")
    file = getattr(sys.modules.get(module), "__file__", None)
    if not colon or module == "__main__" or file is None or is_installed(module):
        return set()
    path = Path(file).resolve()
    return {(path.parent if path.stem == "__init__" else path).parents[module.count(".")]}


def _import(path: str, key: str) -> Any:
    """Import `module:attribute`; modules next to the user's experiment are found, too."""
    module, _, attribute = path.partition(":")
    extend_path()
    if module not in sys.modules:  # the name may come from somebody else's folder
        _log.warning("%s: importing %s, which runs its code", key, module)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the user's module may raise anything on import
        reason = f"{first_line(error)}{place_of(error)}"
        raise ExperimentError(f"{key}: the module of '{path}' cannot be imported: {reason}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if not name.startswith("_")]
            raise ExperimentError(f"{key}: {module} has no attribute '{part}'; {nearest(part, public)}")
        found = getattr(found, part)
    return found
