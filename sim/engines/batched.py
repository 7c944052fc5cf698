"""Attention, normalisation, reductions and views for all agents at once."""

import inspect
from collections.abc import Callable
from functools import partial
from types import EllipsisType, NoneType
from typing import Any

import torch
from torch import Tensor, nn

from basinet.sim.engines.recording import Operation, Value

__all__ = ["BATCHED", "Form", "accepts", "aligned"]

Form = Callable[[list[Any]], Any]
"""Maps the flattened arguments of an operation, with the agents' tensors stacked, to its result."""


def _attention(operation: Operation) -> Form | None:
    """Attend in all agents' samples as if they were one batch."""
    parts = operation.leaves[:3]
    if not all(isinstance(part, Value) and len(part.shape) > 2 for part in parts):
        return None
    if len({part.shape[:-2] for part in parts}) > 1:
        return None
    mask = next((value for value in operation.inputs if value not in parts), None)
    return _called(operation, partial(_attend, len(parts[0].shape), None if mask is None else len(mask.shape)))


def _attend(
    rank: int,
    mask_rank: int | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    # Tensors [N, B, ..., length, width]: a batch has `rank` axes, and a mask that differs between agents `mask_rank`.
    agents, batch = query.shape[:2]
    if attn_mask is not None:
        if mask_rank is None:
            mask_rank = attn_mask.ndim
            attn_mask = attn_mask.expand(agents, *attn_mask.shape) if mask_rank == rank else attn_mask
        else:
            attn_mask = attn_mask[(slice(None),) + (None,) * (rank - mask_rank)]
        if attn_mask.ndim > rank:
            attn_mask = attn_mask.expand(-1, batch, *attn_mask.shape[2:]).flatten(0, 1)
    query, key, value = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
    found = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )
    return found.view(agents, batch, *found.shape[1:])


def _normalization(function: Callable[..., Tensor], operation: Operation) -> Form | None:
    x, *others = operation.leaves
    # Running statistics are only written where each agent has its own.
    if not isinstance(x, Value) or any(isinstance(leaf, Tensor) for leaf in others):
        return None
    args, kwargs = operation.arguments(operation.leaves)
    if not accepts(function, *args, **kwargs):
        return None
    return _called(operation, function)


def _rms_norm(x: Tensor, shape: list[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    x = nn.functional.rms_norm(x, shape, eps=eps)
    return x if weight is None else x * aligned(weight, x.ndim)


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    # x [N, B, C, ...]
    y = nn.functional.group_norm(x.flatten(0, 1), groups, eps=eps).view_as(x)
    axes = (slice(None), None, slice(None)) + (None,) * (x.ndim - 3)
    y = y if weight is None else y * weight[axes]
    return y if bias is None else y + bias[axes]


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Tensor:
    # x [N, B, C, ...]; the statistics [N, C] are updated in place.
    side_by_side = x.transpose(0, 1)
    y = nn.functional.batch_norm(
        side_by_side.flatten(1, 2),
        None if mean is None else mean.view(-1),
        None if variance is None else variance.view(-1),
        None if weight is None else weight.reshape(-1),
        None if bias is None else bias.reshape(-1),
        training,
        momentum,
        eps,
    )
    return y.view(side_by_side.shape).transpose(0, 1)


def _reduction(function: Callable[..., Tensor], operation: Operation) -> Form | None:
    # function(x, dim=None, keepdim=False, *, dtype=None)
    args, kwargs = operation.arguments(operation.leaves)
    settings = dict(zip(("x", "dim", "keepdim"), args, strict=False)) | kwargs
    x, dim, keepdim, dtype = (settings.pop(name, None) for name in ("x", "dim", "keepdim", "dtype"))
    dims = dim if isinstance(dim, list | tuple) else () if dim is None else (dim,)
    if settings or not isinstance(x, Value) or not x.shape or not isinstance(keepdim, bool | NoneType):
        return None
    if not all(isinstance(axis, int) for axis in dims):
        return None
    axes = tuple(axis + 1 if axis >= 0 else axis for axis in dims or range(len(x.shape)))
    return lambda leaves: function(leaves[0], axes, keepdim=bool(keepdim), dtype=dtype)


def _expansion(operation: Operation) -> Form | None:
    if operation.inputs != operation.leaves[:1]:
        return None
    shape = operation.outputs[0].shape
    return lambda leaves: aligned(leaves[0], len(shape) + 1).expand(-1, *shape)


def _indexing(operation: Operation) -> Form | None:
    x, index = operation.arguments(operation.leaves)[0]
    parts = index if isinstance(index, tuple) else (index,)
    if operation.inputs != [x] or not all(type(part) in (int, slice, EllipsisType, NoneType) for part in parts):
        return None
    axes = (slice(None), *parts)
    return lambda leaves: leaves[0][axes]


def accepts(function: Callable[..., Any], *args: object, **kwargs: object) -> bool:
    """Return whether a function takes some arguments, of which torch's have other names than ours.

    Args:
        function: The function.
        *args: Arguments by position.
        **kwargs: Arguments by name.

    Returns:
        Whether it can be called with them.
    """
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def aligned(parameter: Tensor, ndim: int) -> Tensor:
    """Insert axes after the agents' axis so that a parameter of last axes broadcasts.

    Args:
        parameter: [N, ...].
        ndim: Number of axes of what it is to be broadcast with.

    Returns:
        A view with so many axes.
    """
    return parameter[(slice(None),) + (None,) * (ndim - parameter.ndim)]


def _called(operation: Operation, function: Callable[..., Any]) -> Form:
    """Return the form that calls another function with the arguments."""

    def form(leaves: list[Any]) -> Any:
        args, kwargs = operation.arguments(leaves)
        return function(*args, **kwargs)

    return form


BATCHED: dict[Callable[..., Any], Callable[[Operation], Form | None]] = {
    nn.functional.scaled_dot_product_attention: _attention,
    torch.rms_norm: partial(_normalization, _rms_norm),
    torch.group_norm: partial(_normalization, _group_norm),
    torch.batch_norm: partial(_normalization, _batch_norm),
    **{function: partial(_reduction, torch.sum) for function in (torch.sum, Tensor.sum)},
    **{function: partial(_reduction, torch.mean) for function in (torch.mean, Tensor.mean)},
    Tensor.expand: _expansion,
    Tensor.__getitem__: _indexing,
}
"""Makes the form of an operation by its function; None where it does not fit."""
