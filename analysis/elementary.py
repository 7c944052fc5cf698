"""Normalisations in elementary operations, which can be differentiated more than once."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Elementary"]


class Elementary(TorchFunctionMode):
    """Replaces fused normalisations of `torch.nn` by their definitions, where torch differentiates them wrongly.

    The first derivative of the fused kernels is right. Differentiated further, they treat as constant what they saved
    on the way: weight normalisation the norms, from the second derivative on, and layer, batch and instance
    normalisation their statistics, from the third on; without a word. The definitions take more time and memory.
    Normalisation by running statistics is affine, and right as it is; the running statistics are not written to.

    Args:
        times: How often the result is going to be differentiated.
    """

    def __init__(self, times: Literal[2, 3]) -> None:
        super().__init__()
        self.replaced = _AT_TWO if times == 2 else _AT_THREE

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return self.replaced.get(func, func)(*args, **(kwargs or {}))


def _layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    return _affine(_standardized(x, dims, eps), weight, bias)


def _rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _affine(x * torch.rsqrt(x.square().mean(dims, keepdim=True) + eps), weight, None)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return functional.batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    dims = (0, *range(2, x.ndim))
    return _affine(_standardized(x, dims, eps), *_per_channel(x, weight, bias))


def _instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return functional.instance_norm(x, running_mean, running_var, weight, bias, use_input_stats=False, eps=eps)
    return _affine(_standardized(x, tuple(range(2, x.ndim)), eps), *_per_channel(x, weight, bias))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = tuple(d for d in range(v.ndim) if dim == -1 or d != dim)  # -1 is torch's word for the norm of the whole
    return v * (g / v.square().sum(others, keepdim=True).sqrt())


def _standardized(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)


def _per_channel(x: Tensor, *factors: Tensor | None) -> list[Tensor | None]:
    """Shape what belongs to the channels, the second dimension, to go with x."""
    return [None if factor is None else factor.view(-1, *(1 for _ in x.shape[2:])) for factor in factors]


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


_Replaced = dict[Callable[..., Any], Callable[..., Any]]

_AT_TWO: _Replaced = {torch._weight_norm: _weight_norm}  # what both forms of nn's weight normalisation call

_AT_THREE: _Replaced = _AT_TWO | {
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    functional.batch_norm: _batch_norm,
    functional.instance_norm: _instance_norm,
}
