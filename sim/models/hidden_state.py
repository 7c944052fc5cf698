"""What modules and functions keep from one pass to the next, outside parameters and buffers."""

import argparse
import copyreg
import inspect
import itertools
import pickle
import random
import types
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from operator import length_hint
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from basinet.sim.experiment import source

__all__ = ["hidden_state"]

_LONG = 1000
"""Number of entries from which only the length of a container is looked at."""

_globals_of = lru_cache(maxsize=4096)(source.globals_of)


def hidden_state(owners: Mapping[str, Any]) -> dict[str, str]:
    """Describe all that some objects hold and that a pass could change, but for parameters and buffers.

    It is found in attributes of modules and of the user's objects and classes, in closures, defaults and module
    variables of the user's functions, in containers of these, and in random generators and iterators.

    Args:
        owners: Objects by name, such as modules and functions.

    Returns:
        The value of each part, by its path; equal if the values are.
    """
    found: dict[str, str] = {}
    seen: dict[int, Any] = {}  # holds the objects, so that no identity is reused
    pending = list(owners.items())[::-1]
    while pending:
        path, value = pending.pop()
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
            found[path] = repr(value)
        elif id(value) not in seen:
            seen[id(value)] = value
            told = _told(value)
            if told is not None:
                found[path] = told
            parts = {f"{path}.{name}".removeprefix("."): part for name, part in _parts(value).items()}
            pending += list(parts.items())[::-1]
    return found


def _told(value: Any) -> str | None:
    """Describe what a value is, apart from its parts."""
    if isinstance(value, nn.Parameter):
        return None
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            return None
        numbers = value.detach().cpu().resolve_conj().resolve_neg().flatten()
        numbers = numbers.clone(memory_format=torch.contiguous_format)  # an expanded number has no stride of 1
        return f"{value.dtype} {tuple(value.shape)} {zlib.crc32(numbers.view(torch.uint8).numpy().data)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {zlib.crc32(value.tobytes())}"
    if isinstance(value, torch.Generator):
        return _told(value.get_state())
    if isinstance(value, random.Random | np.random.Generator | np.random.RandomState):
        return str(zlib.crc32(pickle.dumps(value)))
    if isinstance(value, itertools.count):
        return repr(value)
    if isinstance(value, set | frozenset):
        return str(sorted(map(str, value))) if len(value) < _LONG else str(len(value))
    if isinstance(value, list | tuple | dict | deque):
        return str(len(value))
    return str(length_hint(value, -1)) if isinstance(value, Iterator) and _is_built_in(value) else None


def _parts(value: Any) -> dict[str, Any]:
    """List what a value holds, by name."""
    found: dict[str, Any] = {}
    if isinstance(value, list | tuple | deque) and len(value) < _LONG:
        found |= {str(place): part for place, part in enumerate(value)}
    elif isinstance(value, dict) and len(value) < _LONG:
        found |= {str(key): part for key, part in value.items()}
    if isinstance(value, types.FunctionType):
        return _parts_of_function(value)
    if isinstance(value, partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, types.MethodType):
        return {"__self__": value.__self__, "__func__": value.__func__}
    if isinstance(value, types.GeneratorType):
        return inspect.getgeneratorlocals(value)
    if isinstance(value, staticmethod | classmethod):
        return {"__func__": value.__func__}
    if isinstance(value, property):
        return {"fget": value.fget}
    if isinstance(value, type):
        return _parts_of_class(value)
    own = [kind for kind in type(value).__mro__ if not source.is_installed(kind.__module__)]
    if isinstance(value, nn.Module):
        held = {name: part for name, part in vars(value).items() if name not in ("_parameters", "_buffers", "_modules")}
        found |= held | value._modules
    elif own or isinstance(value, types.SimpleNamespace | argparse.Namespace):
        slots = (name for kind in own for name in copyreg._slotnames(kind))  # type: ignore[attr-defined]
        found |= getattr(value, "__dict__", {}) | {name: getattr(value, name, None) for name in slots}
    return {**found, type(value).__name__: type(value)} if own else found


def _parts_of_class(kind: type) -> dict[str, Any]:
    """List the attributes and methods of a class of the user's, and its bases."""
    if source.is_installed(kind.__module__):
        return {}
    own = {name: part for name, part in vars(kind).items() if isinstance(part, types.FunctionType) or name[:2] != "__"}
    return own | {base.__name__: base for base in kind.__bases__}


def _parts_of_function(function: types.FunctionType) -> dict[str, Any]:
    """List what a function can change: its closure, defaults and attributes, and module variables."""
    found: dict[str, Any] = dict(vars(function))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # it is empty
            continue
    if source.is_installed(function.__module__ or "builtins"):
        return found
    found |= {"__defaults__": function.__defaults__, "__kwdefaults__": function.__kwdefaults__}
    names, _ = _globals_of(function.__code__)
    used = {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}
    return found | {name: part for name, part in used.items() if not isinstance(part, type | types.ModuleType)}


def _is_built_in(value: Any) -> bool:
    return type(value).__module__ == "builtins"
