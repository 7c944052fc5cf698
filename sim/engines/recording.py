"""Recordings of one agent's computation: the torch functions it calls, in order, and the tensors that go through them.

A recording sees what a model computes, not how it is written: hooks, parametrizations, loops, masks and several inputs
need no care. It holds for inputs of one shape, and only if the same functions are called whatever the values are.
"""

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from basinet.sim.engines.randomness import DROPOUTS

__all__ = ["Operation", "Recording", "Unrecordable", "Value", "functions_named", "record"]

_ABOUT_TENSORS = {
    "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "__len__", "is_floating_point",
    "is_complex", "is_signed", "is_contiguous", "is_same_size", "element_size", "get_device", "type", "is_inference",
    "result_type", "__get__",
}  # fmt: skip
"""Functions of tensors that return no tensor and do not depend on their values."""

_UNSEEN = (torch.autograd.grad, torch.autograd.backward, Tensor.backward)
"""Functions whose results depend on what cannot be recorded."""

_WRITING_BUFFERS = (torch.batch_norm, torch.instance_norm)
"""Functions that write into arguments, which torch does not count."""

_OTHER = "uses a tensor that is neither its own nor computed by torch's functions"

_ASKING = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@dataclass(frozen=True)
class Value:
    """A tensor that differs between agents.

    Attributes:
        index: Its number in the recording.
        shape: Its shape, for one agent.
        dtype: Its type.
        trained: Whether its gradient is wanted: it depends on parameters.
        name: The name of the parameter or buffer that it is; "" for inputs and results.
    """

    index: int
    shape: torch.Size
    dtype: torch.dtype
    trained: bool
    name: str = ""


@dataclass
class Operation:
    """A call of a torch function.

    Attributes:
        function: The function.
        leaves: Its arguments, flattened; a `Value` stands for each tensor that differs between agents.
        spec: How the arguments were nested; None if they are given by position and not nested.
        outputs: The tensors among its results, in order.
        writes: Whether it writes into its first argument, which is also its only result.
        constant: Whether autograd was off.
        dropout: The number of this dropout in a pass; None for all other functions.
    """

    function: Callable[..., Any]
    leaves: list[Any]
    spec: TreeSpec | None
    outputs: list[Value] = field(default_factory=list)
    writes: bool = False
    constant: bool = False
    dropout: int | None = None

    @property
    def inputs(self) -> list[Value]:
        """The arguments that differ between agents, each once."""
        return list(dict.fromkeys(leaf for leaf in self.leaves if isinstance(leaf, Value)))

    def call(self, leaves: list[Any]) -> Any:
        """Call the function with other leaves in its arguments."""
        args, kwargs = self.arguments(leaves)
        return self.function(*args, **kwargs)

    def arguments(self, leaves: list[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        """Nest leaves as the arguments were."""
        return (leaves, {}) if self.spec is None else tree_unflatten(leaves, self.spec)

    @property
    def name(self) -> str:
        """The function's name; for what gets or sets an attribute, that of the attribute."""
        name: str = getattr(self.function, "__name__", str(self.function))
        owner = self.function.__self__ if name in ("__get__", "__set__") else self.function  # type: ignore[attr-defined]
        return str(getattr(owner, "__name__", name))


@dataclass
class Recording:
    """A computation.

    Attributes:
        inputs: The inputs that vary.
        operations: What is computed from them, in order.
        output: The result.
    """

    inputs: list[Value] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    output: Value | None = None

    def computes_as(self, other: "Recording") -> bool:
        """Return whether another recording calls the same functions with the same arguments."""
        mine, others = ([leaf for o in r.operations for leaf in (o.function, *o.leaves)] for r in (self, other))
        return len(mine) == len(others) and all(map(_alike, mine, others))


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, Value) and isinstance(b, Value):
        return a.index == b.index
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    return a is b or (type(a) is type(b) and bool(a == b))


def record(
    compute: Callable[[list[Tensor]], Any],
    inputs: list[Tensor],
    parameters: dict[str, Tensor],
    buffers: dict[str, Tensor],
    *,
    differentiate: bool = True,
) -> Recording:
    """Record a computation.

    Args:
        compute: Maps the inputs to a tensor.
        inputs: Tensors; the computation gets clones.
        parameters: Further tensors that it uses, with respect to which it is to be differentiated.
        buffers: Further tensors that it uses, and may write.
        differentiate: Whether autograd is on.

    Returns:
        The recording.

    Raises:
        Unrecordable: The computation may differ for other values, or has effects that cannot be repeated for all agents
            together; the message names the function.
    """
    recorder = _Recorder()
    with torch.enable_grad():
        # No leaves of autograd, which must not be written.
        clones = [x.detach().clone().requires_grad_(x.is_floating_point() or x.is_complex()).clone() for x in inputs]
    recorder.recording.inputs = [recorder.keep(x, trained=False) for x in clones]
    for name, parameter in parameters.items():
        recorder.keep(parameter, trained=True, name=name)
    for name, buffer in buffers.items():
        recorder.keep(buffer, trained=False, name=name)
    output = None
    try:
        with torch.set_grad_enabled(differentiate), recorder:
            output = compute(clones)
    except Exception:
        if recorder.refusal is None:
            raise
    if recorder.refusal is not None:  # others may have caught it, or put another error in its place
        raise recorder.refusal
    return recorder.finish(output)


def functions_named(*names: str) -> set[Callable[..., Any]]:
    """Find torch's functions by their names.

    Args:
        *names: Names of functions of torch, of tensors or of `torch.nn.functional`; not each has to be in all of them.

    Returns:
        The functions.
    """
    places = torch, Tensor, torch._C._nn, nn.functional
    found = (getattr(place, name, None) for place in places for name in names)
    return {function for function in found if function is not None}


class Unrecordable(ValueError):
    """A computation cannot be recorded; the message goes on from a subject: "uses autocast"."""


class _Recorder(TorchFunctionMode):
    """Records the calls of torch functions while active; torch's Python functions are entered."""

    def __init__(self) -> None:
        super().__init__()
        self.recording = Recording()
        # By identity; holds the tensors, so that it is not reused, and how autograd has come to them.
        self.held: dict[int, tuple[Tensor, Value, Any]] = {}
        self.constants: list[tuple[Tensor, int]] = []
        self.entered: list[Callable[..., Any]] = []
        self.written: set[str] = set()
        self.dropouts = 0
        self.count = 0
        self.refusal: Unrecordable | None = None

    def keep(self, tensor: Tensor, *, trained: bool, name: str = "") -> Value:
        """Note a tensor that differs between agents."""
        value = Value(self.count, tensor.shape, tensor.dtype, trained, name)
        self.count += 1
        self.held[id(tensor)] = tensor, value, tensor.grad_fn
        return value

    def value_of(self, tensor: Tensor) -> Value:
        """Return what stands for a tensor that differs between agents."""
        _, value, grad_fn = self.held[id(tensor)]
        if tensor.grad_fn is not grad_fn:
            if isinstance(tensor.grad_fn, torch.autograd.function.BackwardCFunction):
                raise Unrecordable(f"is differentiated by an autograd.Function: {tensor.grad_fn.name()}")
            raise Unrecordable(_OTHER)
        if value.name in self.written:
            raise Unrecordable(f"uses the buffer {value.name} after it has written it")
        return value

    def finish(self, output: Any) -> Recording:
        """Return the recording of a computation that has ended."""
        if any(tensor._version != version for tensor, version in self.constants):
            raise Unrecordable("writes into a tensor that it has used")
        if not isinstance(output, Tensor):
            raise Unrecordable(f"returns a {type(output).__name__}, not a tensor")
        if id(output) not in self.held:
            raise Unrecordable(_OTHER)
        self.recording.output = self.value_of(output)
        if self.recording.output.name:
            raise Unrecordable(f"returns {self.recording.output.name} itself")
        return self.recording

    def __torch_function__(
        self, func: Callable[..., Any], types_: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            return self._follow(func, args, kwargs or {})
        except Unrecordable as error:
            self.refusal = self.refusal or error
            raise

    def _follow(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call, or what it calls."""
        if func in DROPOUTS:
            return self._dropout(func, *args, **kwargs)
        if func in _UNSEEN:
            raise Unrecordable(f"calls {func.__name__}")
        # Some of torch's Python functions are called again by their own names, and then stand for what they wrap.
        if isinstance(func, types.FunctionType) and func not in self.entered:
            self.entered.append(func)
            try:
                with self:
                    return _entry(func)(*args, **kwargs)
            finally:
                self.entered.pop()
        return self._record(func, args, kwargs)

    def _dropout(
        self, function: Callable[..., Any], input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training:
            return input
        if id(input) not in self.held:
            raise Unrecordable("drops elements of a constant")
        number, self.dropouts = self.dropouts, self.dropouts + 1
        # Values do not matter here: nothing is dropped.
        out: Tensor = self._record(torch.clone, (input,), {})
        operation = self.recording.operations[-1]
        operation.function, operation.dropout = function, number
        operation.leaves.append(p)
        return out

    def _record(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in tensors):
            raise Unrecordable("calls a transform of torch.func, such as vmap")
        if not any(id(tensor) in self.held for tensor in tensors):
            return func(*args, **kwargs)
        versions = [tensor._version for tensor in tensors]
        flat = not kwargs and len(args) == len(leaves) and all(a is b for a, b in zip(args, leaves, strict=True))
        operation = Operation(func, [self._argument(leaf) for leaf in leaves], None if flat else spec)
        operation.constant = not torch.is_grad_enabled()
        with _ValueWatch({id(tensor) for tensor in tensors if id(tensor) not in self.held}) as watch:
            result = func(*args, **kwargs)
        found = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        if _reads_values(operation) or (watch.found and not _only_checks_values(operation)):
            raise Unrecordable(f"depends on values of tensors: {operation.name.strip('_')}")
        if any(tensor.layout != torch.strided for tensor in found):
            raise Unrecordable(f"makes a tensor that is not dense: {operation.name.strip('_')}")
        written = [t for t, version in zip(tensors, versions, strict=True) if t._version != version]
        if not found and not written:
            if func.__name__ not in _ABOUT_TENSORS:
                what = "sets" if func.__name__ == "__set__" else "depends on values of tensors:"
                raise Unrecordable(f"{what} {operation.name.strip('_')}")
            return result
        if torch.is_autocast_enabled(tensors[0].device.type):
            raise Unrecordable("uses autocast")
        if written:
            self._check_written(operation, tensors, written)
            operation.writes, found = True, written[:1]
        if written or func in _WRITING_BUFFERS:
            self._note_written(operation)
        name = operation.leaves[0].name if written else ""
        trained = not operation.constant and any(value.trained for value in operation.inputs)
        operation.outputs = [self.keep(t, trained=trained and t.requires_grad, name=name) for t in found]
        self.recording.operations.append(operation)
        return result

    def _argument(self, leaf: Any) -> Any:
        """Return what stands for an argument in the recording."""
        if isinstance(leaf, slice) and any(isinstance(t, Tensor) for t in (leaf.start, leaf.stop, leaf.step)):
            raise Unrecordable("depends on values of tensors: a slice")
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in self.held:
            return self.value_of(leaf)
        if leaf.requires_grad:
            raise Unrecordable(_OTHER)
        self.constants.append((leaf, leaf._version))
        return leaf

    def _check_written(self, operation: Operation, tensors: list[Tensor], written: list[Tensor]) -> None:
        """Raise unless a function writes into its first argument alone, and nothing else sees it."""
        target = operation.leaves[0]
        storage = written[0].untyped_storage().data_ptr()
        shared = [t for t, *_ in self.held.values() if t.untyped_storage().data_ptr() == storage]
        if not isinstance(target, Value) or any(t is not tensors[0] for t in (*written, *shared)):
            raise Unrecordable(f"writes into a tensor that it sees in another place, too: {operation.name}")
        if target.name and (target.trained or written[0].requires_grad):
            raise Unrecordable(f"writes {target.name}: {operation.name}")

    def _note_written(self, operation: Operation) -> None:
        """Note the buffers that an operation writes; each is to be used once, so that the order does not matter."""
        unseen = operation.function in _WRITING_BUFFERS
        buffers = operation.inputs if unseen else [v for v in operation.leaves[:1] if isinstance(v, Value)]
        for buffer in buffers:
            if buffer.name and not buffer.trained:
                if any(buffer in earlier.inputs for earlier in self.recording.operations):
                    raise Unrecordable(f"writes the buffer {buffer.name} after it has used it")
                self.written.add(buffer.name)


class _ValueWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes while active whether shapes of results, or numbers, are determined by the values of tensors.

    Args:
        constants: Identities of tensors that are the same for all agents, and may determine them.
    """

    def __init__(self, constants: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.constants = constants
        self.found = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, since torch would import its compiler, which takes as long as all else, to leave this out."""
        return False

    def __torch_dispatch__(
        self, func: Any, types_: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _BY_VALUE.isdisjoint(getattr(func, "tags", ())):
            deciding = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
            if func is torch.ops.aten.index.Tensor:  # numbers of elements give a shape, and masks do not
                deciding = [tensor for tensor in deciding[1:] if tensor.dtype in (torch.bool, torch.uint8)]
            elif func is torch.ops.aten.masked_select.default:
                deciding = deciding[1:]
            self.found |= any(id(tensor) not in self.constants for tensor in deciding)
        return func(*args, **kwargs)


_BY_VALUE = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
"""Torch's marks of operations that return a tensor whose shape is determined by values, or a number."""

_READING_VALUES = functions_named("tensor_split", "_pack_padded_sequence", "_pad_packed_sequence")
"""Functions without such a mark whose results have shapes that are determined by arguments after the first."""

_CHECKING_VALUES = functions_named("cov", "corrcoef")
"""Functions that read values only to check them."""


def _reads_values(operation: Operation) -> bool:
    return operation.function in _READING_VALUES and any(isinstance(leaf, Value) for leaf in operation.leaves[1:])


def _only_checks_values(operation: Operation) -> bool:
    if operation.function in _ONE_HOT:
        return len(operation.leaves) > 1 and operation.leaves[1] != -1
    return operation.function in _CHECKING_VALUES


_ONE_HOT = functions_named("one_hot")


def _entry(function: types.FunctionType) -> Callable[..., Any]:
    """Return one of torch's Python functions such that it does not ask whether it is overridden."""
    namespace = function.__globals__ | dict.fromkeys(_ASKING, _never)
    copy = types.FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _never(*_: object) -> bool:
    return False
