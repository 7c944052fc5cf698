"""How a model takes a batch: which of its parts, by position or by name."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, wraps
from typing import Any

from torch import Tensor, nn

from basinet.sim.data.nests import Nest, fields_of, leaves

__all__ = ["TARGETS", "arguments", "asked", "called", "inputs_in_words", "takes", "takes_all", "targets_of"]

TARGETS = ("targets", "target", "labels", "label", "y")
"""Names of a field that is taken as the targets."""


def targets_of(batch: Nest, name: str | None) -> Any:
    """Find the targets of a batch.

    Args:
        batch: A batch.
        name: The field that holds them; None for the last part of a tuple or list, or the field that has a usual name.

    Returns:
        The part; None if there is none.

    Raises:
        ValueError: There is no field of this name.
    """
    if name is None and isinstance(batch, tuple | list) and not hasattr(batch, "_fields"):
        return batch[-1]
    found = fields_of(batch)
    if name is not None and name not in found:
        raise ValueError(f"a batch has no field {name!r} for the targets; it has {', '.join(found) or 'none'}")
    if name is None:
        name = next((usual for usual in TARGETS if usual in found), None)
    return None if name is None else found[name]


def arguments(model: Any, batch: Nest, name: str | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Choose what a model is called with.

    Args:
        model: The model.
        batch: A tensor; a tuple or list, of which the model takes all parts but the last, the targets, by position; or
            a mapping or dataclass, of which it takes the fields by name that its forward names, or all but the targets
            if it takes any.
        name: The field that holds the targets; see `targets_of`.

    Returns:
        Arguments by position and by name.

    Raises:
        ValueError: The model needs a field that the batch has not.
    """
    if isinstance(batch, Tensor):
        return (batch,), {}
    if isinstance(batch, tuple | list) and not hasattr(batch, "_fields"):
        return tuple(batch[:-1]) or (batch[0],), {}
    found = fields_of(batch)
    forward = model.forward if isinstance(model, nn.Module) else model
    accepted = _parameters(getattr(forward, "__func__", forward))
    if accepted is None:
        return (), {key: part for key, part in found.items() if key not in ({name} if name else TARGETS)}
    if missing := [key for key, needed in accepted.items() if needed and key not in found]:
        raise ValueError(
            f"the forward of {type(model).__name__} needs {', '.join(missing)}, and a batch has {', '.join(found)}"
        )
    return (), {key: part for key, part in found.items() if key in accepted}


def takes(model: Callable[..., Any], count: int) -> bool:
    """Return whether a model can be called with some parts of a batch by position, as far as its forward tells.

    Args:
        model: The model.
        count: Number of parts.

    Returns:
        Whether it can; True for what is no module.
    """
    if not isinstance(model, nn.Module):
        return True
    most = _positions(getattr(model.forward, "__func__", model.forward))
    return most is None or count <= most


def called(model: Callable[..., Any], batch: Nest, name: str | None = None) -> Any:
    """Call a model with a batch.

    Args:
        model: The model.
        batch: A batch; see `arguments`.
        name: The field that holds the targets.

    Returns:
        What it returns.
    """
    by_position, by_name = arguments(model, batch, name)
    return model(*by_position, **by_name)


class _Asked(Exception):
    """Ends a call whose arguments are known."""


def asked(
    outputs: Callable[[Callable[..., Any], Nest], Any], model: nn.Module, batch: Nest
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Find out what a task calls a model with.

    Args:
        outputs: Applies a model to a batch; see `Task.outputs`.
        model: The model, which is not run.
        batch: A batch.

    Returns:
        Arguments by position and by name; none if it is not called.
    """
    found: list[tuple[Sequence[Any], Mapping[str, Any]]] = []
    probe = copy.copy(model)

    @wraps(type(model).forward)
    def forward(*by_position: Any, **by_name: Any) -> None:
        found.append((by_position, by_name))
        raise _Asked

    vars(probe)["forward"] = forward
    with suppress(Exception):  # also one of the task's own
        outputs(probe, batch)
    return found[0] if found else ((), {})


def takes_all(model: nn.Module | type[nn.Module], by_position: Sequence[Any], by_name: Mapping[str, Any]) -> bool:
    """Return whether the forward of a model has parameters for some arguments, whatever their values.

    Args:
        model: The model, or its class.
        by_position: Arguments by position.
        by_name: Arguments by name.

    Returns:
        Whether it has.
    """
    own = (model,) if isinstance(model, type) else ()
    try:
        inspect.signature(model.forward).bind(*own, *by_position, **by_name)
    except TypeError:
        return False
    return True


def inputs_in_words(by_position: Sequence[Any], by_name: Mapping[str, Any]) -> str:
    """Describe what a model is called with.

    Args:
        by_position: Arguments by position.
        by_name: Arguments by name.

    Returns:
        The shapes of a sample of each: "(3, 8, 8) and (5,)", or "clip [(3, 8, 8), (5,)] and phase [(3, 8, 8)]".
    """

    def shapes(part: Any) -> str:
        found = ", ".join(str(tuple(t.shape[1:])) for t in leaves(part))
        return found if isinstance(part, Tensor) else f"[{found}]"

    words = [*map(shapes, by_position), *(f"{name} {shapes(part)}" for name, part in by_name.items())]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


@cache
def _parameters(function: Callable[..., Any]) -> dict[str, bool] | None:
    """Return the names of a function's parameters, and whether each is needed; None if it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {
        parameter.name: parameter.default is inspect.Parameter.empty
        for parameter in parameters
        if parameter.name != "self" and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    }


@cache
def _positions(function: Callable[..., Any]) -> int | None:
    """Return how many arguments a function takes by position, besides `self`; None if it takes any number."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in kinds and parameter.name != "self" for parameter in parameters)
