"""Torch functions for all agents at once: a direct form where one is known, otherwise `torch.vmap` over the agents.

A direct form takes the arguments with a leading axis N in all tensors that differ between agents. Autograd
differentiates it.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from basinet.algorithms import draws
from basinet.sim.engines.batched import BATCHED, Form
from basinet.sim.engines.randomness import CHANNEL_DROPOUTS, keyed_dropout
from basinet.sim.engines.recording import Operation, Value, functions_named
from basinet.sim.engines.recurrent import RECURRENT

__all__ = ["Call", "Form", "Keys", "Mapped", "direct_form", "keeps_order"]

Environment = dict[int, Tensor]
"""Stacked tensors by the numbers of their values."""


class Keys:
    """The agents' keys for the current pass, shared by all dropouts."""

    now: Tensor


class Call:
    """One operation on stacked tensors, or on those of one agent inside `torch.vmap`.

    Args:
        operation: The operation.
        form: Its direct form; None to call the function itself.
    """

    def __init__(self, operation: Operation, form: Form | None = None) -> None:
        self.operation = operation
        self.form = form or operation.call
        self.places = [(i, leaf.index) for i, leaf in enumerate(operation.leaves) if isinstance(leaf, Value)]
        self.outputs = [value.index for value in operation.outputs]
        self.copies = operation.writes and not operation.outputs[0].name

    def __call__(self, values: Environment) -> None:
        """Compute the operation's results from its arguments."""
        leaves = self.operation.leaves.copy()
        for i, index in self.places:
            leaves[i] = values[index]
        if self.operation.writes:
            if self.copies:  # nothing else sees the tensor that is written
                leaves[0] = leaves[0].clone()
            self.form(leaves)
            values[self.outputs[0]] = leaves[0]
            return
        result = self.form(leaves)
        found = (
            [result] if isinstance(result, Tensor) else [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]
        )
        if self.operation.constant:
            found = [tensor.detach() for tensor in found]
        values.update(zip(self.outputs, found, strict=True))


class Mapped:
    """Some operations in a row, mapped over the agents by `torch.vmap`.

    Args:
        operations: The operations.
        wanted: Numbers of those results that are used elsewhere.
    """

    def __init__(self, operations: list[Operation], wanted: Iterable[int]) -> None:
        self.calls = [Call(operation) for operation in operations]
        made = {index for call in self.calls for index in call.outputs}
        used = dict.fromkeys(index for call in self.calls for _, index in call.places)
        self.inputs = [index for index in used if index not in made]
        self.outputs = [index for index in wanted if index in made]

    def __call__(self, values: Environment) -> None:
        """Compute the results from the arguments."""
        found = torch.vmap(self._agent)([values[index] for index in self.inputs])
        values.update(zip(self.outputs, found, strict=True))

    def _agent(self, tensors: list[Tensor]) -> list[Tensor]:
        values = dict(zip(self.inputs, tensors, strict=True))
        for call in self.calls:
            call(values)
        return [values[index] for index in self.outputs]


def direct_form(operation: Operation, keys: Keys) -> Form | None:
    """Return the direct form of an operation.

    Args:
        operation: The operation.
        keys: Holds the agents' keys.

    Returns:
        The form; None if there is none.
    """
    if operation.dropout is not None:
        return _dropout(operation, keys)
    if operation.writes:
        return None
    if operation.function in _POINTWISE:
        return _pointwise(operation)
    if keeps_order(operation):
        return _reshape(operation)
    if operation.function in _TRANSPOSING:
        return _transpose(operation)
    rule = BATCHED.get(operation.function) or RECURRENT.get(operation.function)
    return rule(operation) if rule else None


def keeps_order(operation: Operation) -> bool:
    """Return whether an operation only changes the shape of a tensor.

    Args:
        operation: The operation.

    Returns:
        Whether its result has the same elements in the same order.
    """
    before = operation.leaves[0] if operation.function in _RESHAPING else None
    return isinstance(before, Value) and before.dtype == operation.outputs[0].dtype


def _reshape(operation: Operation) -> Form:
    shape = tuple(operation.outputs[0].shape)
    return lambda leaves: leaves[0].reshape(leaves[0].shape[:1] + shape)


def _transpose(operation: Operation) -> Form:
    """Count axes from the last one, so that the agents' axis does not move them."""
    rank = len(operation.outputs[0].shape)
    others = [axis if axis < 0 else axis - rank for axis in operation.leaves[1:]]
    return lambda leaves: operation.call([leaves[0], *others])


def _dropout(operation: Operation, keys: Keys) -> Form:
    channels, number = operation.function in CHANNEL_DROPOUTS, operation.dropout or 0

    def form(leaves: list[Any]) -> Tensor:
        x, p = leaves
        return keyed_dropout(x, p, draws.fold(keys.now, number), channels=channels)

    return form


_POINTWISE = functions_named(
    "relu", "tanh", "sigmoid", "gelu", "silu", "softplus", "leaky_relu", "elu", "hardtanh", "logsigmoid",
    "neg", "__neg__", "exp", "log", "log1p", "expm1", "sin", "cos", "sqrt", "rsqrt", "square", "abs", "reciprocal",
    "detach", "clone", "add", "__add__", "__radd__", "sub", "__sub__", "__rsub__", "rsub", "mul", "__mul__", "__rmul__",
    "addcmul", "div", "__truediv__", "true_divide", "pow", "__pow__", "maximum", "minimum", "masked_fill",
    "eq", "__eq__", "ne", "__ne__", "lt", "__lt__", "le", "__le__", "gt", "__gt__", "ge", "__ge__",
)  # fmt: skip
"""Functions that treat each element by itself, and broadcast tensors of different shapes."""

_RESHAPING = functions_named("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
"""Functions that keep the elements in their order."""

_TRANSPOSING = functions_named("transpose", "swapaxes", "swapdims")
"""Functions of a tensor and two of its axes."""


def _pointwise(operation: Operation) -> Form | None:
    """Bring the samples' axes of all agents' tensors to the same number; other tensors are broadcast from the right."""
    rank = max(len(value.shape) for value in operation.inputs)
    others = [leaf for leaf in operation.leaves if isinstance(leaf, Tensor)]
    if any(tensor.ndim > rank for tensor in others):
        return None
    types = {value.dtype for value in operation.inputs} | {tensor.dtype for tensor in others}
    if len(types) > 1 and any(value.shape == () for value in operation.inputs):
        return None  # a number does not decide on the type of a result, and a tensor of N numbers does
    short = [
        (i, (slice(None),) + (None,) * (rank - len(leaf.shape)))
        for i, leaf in enumerate(operation.leaves)
        if isinstance(leaf, Value) and len(leaf.shape) < rank
    ]

    def form(leaves: list[Any]) -> Any:
        for i, axes in short:
            leaves[i] = leaves[i][axes]
        return operation.call(leaves)

    return form if short else operation.call
