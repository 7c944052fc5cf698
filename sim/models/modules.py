"""Users' modules: how they are initialised and copied, and which of them cannot be trained here."""

import copy
import itertools
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from basinet.sim.data.nests import Nest, leaves, map_nest
from basinet.sim.experiment.mistakes import in_words, place_of

__all__ = [
    "FunctionOf",
    "check_module",
    "copy_model",
    "evaluation_mode",
    "layer_at_fault",
    "materialize",
    "move_model",
    "silence_vmap",
    "writes",
]


def _describe(name: str, layer: nn.Module) -> str:
    return f"layer {name} ({type(layer).__name__})" if name else f"outermost layer ({type(layer).__name__})"


def copy_model(model: nn.Module) -> nn.Module:
    """Copy a model.

    Args:
        model: The model; some hooks and forwards leave results of a pass in its attributes, which are copied, too.

    Returns:
        A copy that shares no tensor with it.

    Raises:
        ValueError: The model cannot be copied; the message names the layer.
    """
    try:
        return _copy(model)
    except Exception as error:  # the user's class may raise anything
        name, layer = "", model
        while child := next((c for c in layer.named_children() if not _can_be_copied(c[1])), None):
            name, layer = f"{name}.{child[0]}".removeprefix("."), child[1]
        where = _describe(name, layer)
        raise ValueError(f"its {where} cannot be copied for the agents ({in_words(error)}{place_of(error)})") from error


_HELD = (dict, OrderedDict, set)
"""What a module holds its hooks in, mostly none."""


def _copy(model: nn.Module) -> nn.Module:
    held = [value for module in model.modules() for value in vars(module).values()]
    copies: dict[int, Any] = {id(t): t.detach().clone() for t in held if isinstance(t, Tensor) and not t.is_leaf}
    # These, a dozen in each module, take longer to copy than its tensors.
    copies |= {id(empty): type(empty)() for empty in held if type(empty) in _HELD and not empty}
    lazy = [b for b in model.buffers() if is_lazy(b)]  # torch cannot copy these
    copies |= {id(b): UninitializedBuffer(device=b.device, dtype=b.dtype) for b in lazy}  # type: ignore[call-arg]
    return copy.deepcopy(model, copies)


def _can_be_copied(model: nn.Module) -> bool:
    try:
        _copy(model)
    except Exception:
        return False
    return True


class FunctionOf(nn.Module):
    """A function of a model and a batch as a module, so that `torch.func.functional_call` can swap its parameters.

    Args:
        model: The model, whose parameters are those of the module with the prefix "model.".
        function: Maps the model and a batch to anything.
    """

    def __init__(self, model: nn.Module, function: Callable[[nn.Module, Nest], Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, batch: Nest) -> Any:
        """Evaluate the function."""
        return self.function(self.model, batch)


def check_module(model: nn.Module) -> None:
    """Raise if the parameters of a model cannot be rows of real numbers that agents train and mix.

    Args:
        model: The model.

    Raises:
        ValueError: They cannot; the message names the layer and says what is allowed.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            raise ValueError(
                f"its {_describe(name, layer)} is compiled by torch.jit, which hides its parameters; allowed is the"
                " module it was compiled from"
            )
        held = [(own, "parameter", p) for own, p in layer.named_parameters(recurse=False)]
        held += [(own, "buffer", b) for own, b in layer.named_buffers(recurse=False)]
        for own, what, tensor in held:
            where = f"the {what} {own} of its {_describe(name, layer)}"
            if tensor.is_complex():
                raise ValueError(f"{where} is complex; allowed are real numbers")
            if tensor.layout is not torch.strided:
                raise ValueError(f"{where} is sparse; allowed are dense tensors")
            if tensor.is_meta:
                raise ValueError(f"{where} has no values (it is on the meta device); allowed are the CPU and GPUs")
            if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
                raise ValueError(
                    f"{where} has a hook, which the agents' copies of it would lack; allowed are hooks of layers"
                )


@torch.no_grad()
def materialize(model: nn.Module, apply: Callable[[nn.Module, Nest], object], batch: Nest) -> nn.Module:
    """Initialise lazy layers by a forward pass; their values are drawn from torch's global generators.

    Args:
        model: A model; changed in place where it has lazy layers.
        apply: Applies a model to a batch.
        batch: A few samples.

    Returns:
        The model.
    """
    held = list(itertools.chain(model.parameters(), model.buffers()))
    if any(is_lazy(tensor) for tensor in held):
        types = [tensor.dtype for tensor in held if tensor.is_floating_point()]
        # In evaluation mode, so that running statistics keep their initial values.
        apply(model.eval(), map_nest(lambda t: t.to(types[0] if t.is_floating_point() else None, copy=True), batch))
        model.train()
    return model


def move_model(model: nn.Module, device: torch.device | str, dtype: torch.dtype | None = None) -> nn.Module:
    """Move a model to a device and a floating type; shared buffers stay shared, which `Module.to` does not ensure.

    Args:
        model: The model; changed in place.
        device: The target device.
        dtype: Type of its floating-point parameters and buffers; None to leave it.

    Returns:
        The model.
    """
    moved: dict[int, tuple[Tensor, Tensor]] = {}  # holds the tensor itself, so that its identity is not reused

    def move(tensor: Tensor) -> Tensor:
        if id(tensor) not in moved:
            moved[id(tensor)] = tensor, tensor.to(device, dtype if tensor.is_floating_point() else None)
        return moved[id(tensor)][1]

    model._apply(move)  # type: ignore[no-untyped-call]
    return model


def writes(function: Callable[..., object], *given: Nest) -> bool:
    """Return whether a function writes into its arguments.

    Args:
        function: The user's code; it is called with clones.
        *given: The arguments, nests of tensors.

    Returns:
        Whether it does, by torch's version counters and by the values.
    """
    clones = map_nest(torch.clone, given)
    function(*clones)
    # NaN is not equal to itself.
    return any(
        clone._version > 0 or not bool(((clone == before) | (before != before)).all())
        for clone, before in zip(leaves(clones), leaves(given), strict=True)
    )


def evaluation_mode(model: nn.Module) -> nn.Module:
    """Put a model into an evaluation mode in which all layers can be differentiated, on GPUs too.

    Args:
        model: The model; changed in place, and not to be trained afterwards.

    Returns:
        The model.
    """
    model.eval()
    for layer in model.modules():
        if isinstance(layer, nn.RNNBase):  # cuDNN only differentiates it in training mode, which differs by dropout
            layer.dropout = 0.0
            layer.train()
    return model


def saved_bytes(compute: Callable[[], object]) -> int:
    """Count the bytes that a computation saves for the backward pass.

    Args:
        compute: The computation; its result is discarded.

    Returns:
        The total size of all storages saved by autograd.
    """
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compute()
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


def silence_vmap() -> None:
    """Silence the warnings of `torch.vmap` about operations that it maps by a loop.

    Callers measure, or know, whether mapping is faster than the alternative.
    """
    torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined]


def layer_at_fault(error: BaseException) -> str:
    """Find the layer of a model in which an error was raised.

    Args:
        error: The exception, which has been raised.

    Returns:
        The layer in words; "" if it was raised outside any layer, or the model has only one.
    """
    frames = (frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__))
    layers = [layer for layer in frames if isinstance(layer, nn.Module)]
    if not layers or not any(True for _ in layers[0].children()):
        return ""
    names = {id(layer): name for name, layer in layers[0].named_modules()}
    # The innermost one that belongs to the model.
    return next((_describe(names[id(layer)], layer) for layer in reversed(layers) if id(layer) in names), "")
