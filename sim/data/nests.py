"""Nests: tuples, lists, mappings and dataclasses of tensors, such as a batch or the outputs of a model."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["Nest", "fields_of", "leaves", "map_nest", "map_values", "move_nest", "rebuild"]

Nest = Any
"""A tensor, or a tuple, list, mapping, named tuple or dataclass of nests; other values in it are constants."""


def fields_of(nest: Nest) -> dict[str, Any]:
    """List the parts of a nest.

    Args:
        nest: A nest.

    Returns:
        Its parts: by key or attribute, or by position ("0", "1", …); none of a tensor or a constant.
    """
    if is_dataclass(nest) and not isinstance(nest, type):
        return {field.name: getattr(nest, field.name) for field in fields(nest)}
    if isinstance(nest, Mapping):
        return {str(key): part for key, part in nest.items()}
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return dict(zip(nest._fields, nest, strict=True))
    if isinstance(nest, tuple | list):
        return {str(place): part for place, part in enumerate(nest)}
    return {}


def map_nest(function: Callable[..., Any], nest: Nest, *others: Nest) -> Nest:
    """Apply a function to the tensors of a nest.

    Args:
        function: Takes a tensor, and the corresponding one of each other nest.
        nest: A nest.
        *others: Nests of the same structure.

    Returns:
        A nest of the same structure that holds the results.
    """
    if isinstance(nest, Tensor):
        return function(nest, *others)
    if type(nest) is tuple:  # the usual case
        return tuple(map_nest(function, *parts) for parts in zip(nest, *others, strict=True))
    found = fields_of(nest)
    if not found:
        return nest
    beside = [fields_of(other) for other in others]
    mapped = {name: map_nest(function, part, *(parts[name] for parts in beside)) for name, part in found.items()}
    return _like(nest, mapped)


def map_values(function: Callable[[Any], Any], nest: Nest) -> Nest:
    """Apply a function to the tensors and constants of a nest.

    Args:
        function: Takes a tensor or a constant.
        nest: A nest.

    Returns:
        A nest of the same structure that holds the results.
    """
    found = {} if isinstance(nest, Tensor) else fields_of(nest)
    return _like(nest, {name: map_values(function, part) for name, part in found.items()}) if found else function(nest)


def _like(nest: Nest, parts: dict[str, Any]) -> Nest:
    """Build a nest with other parts."""
    if is_dataclass(nest) and not isinstance(nest, type):
        return replace(nest, **parts)
    if isinstance(nest, Mapping):
        return type(nest)(zip(nest, parts.values(), strict=True))  # type: ignore[call-arg]
    return type(nest)(*parts.values()) if hasattr(nest, "_fields") else type(nest)(parts.values())


def leaves(nest: Nest) -> list[Tensor]:
    """List the tensors of a nest.

    Args:
        nest: A nest.

    Returns:
        Its tensors, in order.
    """
    if type(nest) is tuple and all(isinstance(part, Tensor) for part in nest):  # the usual case
        return list(nest)
    return list(_walk(nest))


def _walk(nest: Nest) -> Iterator[Tensor]:
    if isinstance(nest, Tensor):
        yield nest
    for part in fields_of(nest).values():
        yield from _walk(part)


def rebuild(nest: Nest, tensors: Any) -> Nest:
    """Build a nest that holds other tensors.

    Args:
        nest: A nest, for its structure.
        tensors: As many tensors, in the order of `leaves`.

    Returns:
        The nest.
    """
    following = iter(tensors)
    return map_nest(lambda _: next(following), nest)


def move_nest(nest: Nest, device: torch.device | str, dtype: torch.dtype | None) -> Nest:
    """Move the tensors of a nest to a device, and floating-point ones to a type.

    Views that repeat elements, such as overlapping windows of a series, stay such views.

    Args:
        nest: A nest.
        device: The target device.
        dtype: Type of floating-point tensors, and of the parts of complex ones; integers keep theirs. None for theirs.

    Returns:
        A nest of the same structure.
    """

    def move(tensor: Tensor) -> Tensor:
        wanted = dtype.to_complex() if dtype is not None and tensor.is_complex() else dtype
        wanted = wanted if tensor.is_floating_point() or tensor.is_complex() else None
        if tensor.layout == torch.strided and tensor.untyped_storage().nbytes() < tensor.nbytes:
            held = tensor.detach().as_strided((tensor.untyped_storage().nbytes() // tensor.itemsize,), (1,), 0)
            return held.to(device, wanted).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        return tensor.detach().to(device, wanted)

    return map_nest(move, nest)
