"""The settings declared by the signature of a maker, and the validation of values against it."""

import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticCustomError

from basinet.sim.experiment.grids.ranges import FORMS
from basinet.sim.experiment.mistakes import ExperimentError, nearest, shown

__all__ = [
    "BOOLEAN",
    "NUMBER",
    "is_finite",
    "means_list",
    "parameters",
    "sentence",
    "settings_in",
    "settings_model",
]


@cache
def parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Read a signature, evaluating annotations where possible.

    Args:
        target: A maker.

    Returns:
        Its parameters by name; none if it has no signature.
    """
    try:
        return inspect.signature(target, eval_str=True).parameters
    except NameError:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


def settings_in(
    target: Callable[..., Any], supplied: tuple[str, ...], reserved: tuple[str, ...]
) -> dict[str, inspect.Parameter]:
    """Return the parameters of a maker that are settings; the number of agents is not one, since the topology sets it.

    Args:
        target: The maker.
        supplied: Parameters that the simulator supplies.
        reserved: Parameters that are not settings although they have defaults.

    Returns:
        The parameters by name.
    """
    return {
        name: parameter
        for name, parameter in parameters(target).items()
        if parameter.kind is not parameter.VAR_POSITIONAL
        and name not in reserved
        and not (name in supplied and (name == "num_agents" or parameter.default is parameter.empty))
    }


_LARGEST = float(np.finfo(np.float32).max)
"""Largest magnitude of a number, so that products with parameters are finite in either floating type of a run."""

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


def is_finite(value: Any) -> bool:
    """Return whether a plain value contains no infinity or NaN.

    Args:
        value: Any value.

    Returns:
        Whether it does not; objects that are not plain are ignored.
    """
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float | np.floating) or math.isfinite(value)


def _check_finite(value: Any) -> Any:
    if not is_finite(value):
        raise PydanticCustomError("finite_number", "Input should hold finite numbers")
    return value


def _check_boolean(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise PydanticCustomError("boolean_type", "Input should be true or false")
    return bool(value)


NUMBER, BOOLEAN = BeforeValidator(_check_number), BeforeValidator(_check_boolean)
"""Make pydantic accept no boolean as a number, only finite numbers, and only booleans as booleans."""


def _exact(annotation: Any, bounds: tuple[Any, ...] = ()) -> Any:
    """Complete the type of a setting, including its parts: numbers are finite and not booleans.

    Args:
        annotation: The type; `Annotated[float, Field(allow_inf_nan=True)]` takes any float.
        bounds: Bounds of its floats.

    Returns:
        The type to validate.
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
        constraints = [constraint for part in parts[1:] for constraint in (part, *getattr(part, "metadata", ()))]
        any_float = any(getattr(constraint, "allow_inf_nan", None) for constraint in constraints)
        # Pydantic applies the last validator first.
        last = BeforeValidator(_check_type) if any_float else NUMBER
        return Annotated[(parts[0], *([_INT64] if parts[0] is int else []), *parts[1:], last)]
    if origin in (Union, types.UnionType):
        return Union[tuple(_exact(part, bounds) for part in parts)]  # noqa: UP007
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return origin[tuple(_exact(part, bounds) for part in parts)]  # type: ignore[index]
    return annotation


def settings_model(
    name: str, settings: Mapping[str, inspect.Parameter], bounds: Mapping[str, Any]
) -> tuple[type[BaseModel], list[str]]:
    """Build a pydantic model that validates the settings of a maker.

    Args:
        name: Name of the maker.
        settings: See `settings_in`.
        bounds: Bounds of settings whose maker declares none in its signature.

    Returns:
        The model, in which each setting is an alias, and the names of the settings.
    """
    fields: dict[str, Any] = {}
    names: list[str] = []
    extra: Any = "forbid"
    for setting, parameter in settings.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
            continue
        required = parameter.default is parameter.empty
        evaluated = parameter.annotation is not parameter.empty and not isinstance(parameter.annotation, str)
        annotation = _exact(parameter.annotation if evaluated else Any, (bounds[setting],) if setting in bounds else ())
        # An alias, so that settings do not clash with attributes of pydantic models.
        fields[f"field_{len(names)}"] = (
            annotation,
            Field(... if required else parameter.default, alias=setting),
        )
        names.append(setting)
    config = ConfigDict(extra=extra, arbitrary_types_allowed=True)
    return create_model(name, __config__=config, **fields), names


def means_list(annotation: Any, given: Sequence[Any]) -> bool:
    """Return whether a list given for a setting is meant as one value; otherwise, it is an axis of a grid.

    Args:
        annotation: The type of the setting.
        given: The list.

    Returns:
        Whether it is; a list that is invalid both as a value and in its items counts as a list with an invalid item.
    """
    adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    whole = _allows(adapter, given) or not any(_allows(adapter, part) for part in given)
    return whole and annotation is not Any


def _allows(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


_CHOICES = ("boolean_type", "literal_error")
"""Types of pydantic's errors about what is none of a few values."""


def sentence(error: ValidationError, path: str, names: Iterable[str]) -> str:
    """Turn pydantic's error into a sentence.

    Args:
        error: The error.
        path: Dotted key of what was validated, "" at the top level.
        names: The allowed keys.

    Returns:
        One sentence.
    """
    first = max(
        error.errors(), key=lambda complaint: len(complaint["loc"])
    )  # of several alternatives, the one that got furthest
    where = ".".join(
        [path] * bool(path) + [str(part) for part in first["loc"] if part != "component"][: 1 if path else 2]
    )
    word = str(first["loc"][0]) if first["loc"] else path
    if first["type"] == "extra_forbidden":
        owner = path or "the experiment"
        return f"{where}: {owner} has no key '{word}'; {nearest(word, names)}"
    if first["type"] == "missing":
        return f"{where}: a value is needed"
    if isinstance(first.get("ctx", {}).get("error"), ExperimentError):
        return str(first["ctx"]["error"])
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
    if first["type"] in _CHOICES:  # of which a type may allow several
        complaints = (e["msg"] for e in error.errors() if e["type"] in _CHOICES and e["loc"][:1] == first["loc"][:1])
        message = "should be " + " or ".join(dict.fromkeys(msg.removeprefix("Input should be ") for msg in complaints))
    if isinstance(first["input"], Mapping) and len(words := [*first["input"].keys() - {"name"}]) == 1:
        message += f", or a range; {nearest(words[0], FORMS)}"
    return f"{where}: got {shown(first['input'])}, which {message}"
