"""Layers written in elementary operations, which can be differentiated more than once."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Elementary"]


class Elementary(TorchFunctionMode):
    """Mode that replaces fused layers of `torch.nn` by their definitions where torch differentiates them wrongly.

    In higher derivatives, fused normalisations silently treat the values saved in the forward pass as constants:
    weight normalisation its norms, from the second derivative on; layer, batch and instance normalisation their
    statistics, from the third on. Normalisation by running statistics is affine and already right; the running
    statistics are not written to. Embedding bags and cuDNN's recurrent layers have no second derivative in torch.
    Embeddings get the derivative of the loss itself: dense, not scaled by word frequency, and through the clipping to
    `max_norm`; the row `padding_idx` stays constant. The definitions take more time and memory.

    Args:
        times: Number of times the result is differentiated.
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
    others = tuple(d for d in range(v.ndim) if dim == -1 or d != dim)  # in torch, -1 means the norm of the whole tensor
    return v * (g / v.square().sum(others, keepdim=True).sqrt())


def _embedding(
    words: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    found = functional.embedding(words, weight)
    if padding_idx is not None:  # torch's own handling is lost under vmap
        found = torch.where((words == padding_idx % len(weight))[..., None], found.detach(), found)
    if max_norm is None:
        return found
    cut = torch.linalg.vector_norm(found.detach(), norm_type, -1, keepdim=True) > max_norm
    long = torch.where(cut, found, 1.0)  # the norm has no derivative at zero
    short = long * (max_norm / (torch.linalg.vector_norm(long, norm_type, -1, keepdim=True) + 1e-7))
    return torch.where(cut, short, found)


def _embedding_bag(
    words: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    inside = torch.ones_like(words, dtype=torch.bool)
    if offsets is not None:  # bags of unequal size become padded rows
        ends = torch.cat([offsets[1:], offsets.new_tensor([] if include_last_offset else [len(words)])])
        starts = offsets[: len(ends)]
        columns = torch.arange(max(1, int((ends - starts).max())), device=words.device)
        inside = columns < (ends - starts)[:, None]
        places = (starts[:, None] + columns).clamp(max=len(words) - 1)
        words = words[places]
        per_sample_weights = None if per_sample_weights is None else per_sample_weights[places]
    if padding_idx is not None:
        inside = inside & (words != padding_idx % len(weight))
    rows = _embedding(words, weight, None, max_norm, norm_type)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[..., None]
    inside = inside[..., None]
    if mode == "max":
        largest = torch.where(inside, rows, -torch.inf).max(1).values
        return torch.where(inside.any(1), largest, 0.0)
    total = torch.where(inside, rows, 0.0).sum(1)
    return total / inside.sum(1).clamp(min=1) if mode == "mean" else total


def _recurrent(layer: Callable[..., Any]) -> Callable[..., Any]:
    """Run a recurrent layer without cuDNN, which only differentiates in training mode, and only once."""

    def call(x: Tensor, *args: Any) -> Any:
        if not x.is_cuda:
            return layer(x, *args)
        with torch.backends.cudnn.flags(enabled=False):
            return layer(x, *args)

    return call


def _standardized(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)


def _per_channel(x: Tensor, *factors: Tensor | None) -> list[Tensor | None]:
    """Reshape per-channel factors (second dimension) to broadcast with x."""
    return [None if factor is None else factor.view(-1, *(1 for _ in x.shape[2:])) for factor in factors]


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


_Replaced = dict[Callable[..., Any], Callable[..., Any]]

_AT_TWO: _Replaced = {
    torch._weight_norm: _weight_norm,  # what both forms of nn's weight normalisation call
    functional.embedding: _embedding,
    functional.embedding_bag: _embedding_bag,
    **{layer: _recurrent(layer) for layer in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)},
}

_AT_THREE: _Replaced = _AT_TWO | {
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    functional.batch_norm: _batch_norm,
    functional.instance_norm: _instance_norm,
}
