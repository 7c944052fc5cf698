"""A recorded model as a list of layers, run forward and backward for all agents at once.

Maps with parameters that cost the most have layers of their own, with explicit backward passes. Everything between
them is gathered in segments, which autograd differentiates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from basinet.sim.agents.state import StackedState
from basinet.sim.engines.batched import accepts
from basinet.sim.engines.functions import Call, Keys, Mapped, direct_form, keeps_order
from basinet.sim.engines.layers import (
    ACTIVATIONS,
    Activation,
    Affine,
    Embedding,
    Gradients,
    Layer,
    LayerNorm,
    Reshape,
    RMSNorm,
    Sum,
    Views,
)
from basinet.sim.engines.recording import Operation, Recording, Value, functions_named

__all__ = ["Tape"]


class Segment:
    """Operations between layers, differentiated by autograd on a graph of their own.

    Args:
        operations: The operations, in order.
        inputs: The stacked tensors that it gets.
        outputs: Those that it returns.
        parameters: Views of the state's parameters that it uses, by name.
        held: Parameters and buffers that it uses, by the numbers of their values.
        keys: Holds the agents' keys.
    """

    def __init__(
        self,
        operations: list[Operation],
        inputs: Sequence[Value],
        outputs: Sequence[int],
        parameters: Views,
        held: dict[int, Tensor],
        keys: Keys,
    ) -> None:
        self.inputs, self.outputs = [value.index for value in inputs], outputs
        self.trained = [value.trained for value in inputs]
        self.parameters = parameters
        self.gradients: Views = {}
        self.held = held
        self.differentiable = any(value.trained for operation in operations for value in operation.outputs)
        self.steps: list[Call | Mapped] = []
        mapped: list[Operation] = []
        for place, operation in enumerate(operations):
            form = direct_form(operation, keys)
            if form is None:
                mapped.append(operation)
            if mapped and (form is not None or place == len(operations) - 1):
                later = operations[place if form is not None else place + 1 :]
                self.steps.append(Mapped(mapped, [*outputs, *(v.index for o in later for v in o.inputs)]))
                mapped = []
            if form is not None:
                self.steps.append(Call(operation, form))

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Compute the outputs; see `Layer`."""
        if not self.differentiable:
            return self.value(*inputs)
        with torch.enable_grad():
            self.leaves = [x.detach().requires_grad_(t) for x, t in zip(inputs, self.trained, strict=True)]
            self.results = self.value(*self.leaves)
        return [result.detach() for result in self.results]

    def value(self, *inputs: Tensor) -> list[Tensor]:
        """Compute the outputs only; see `Layer`."""
        values = dict(zip(self.inputs, inputs, strict=True))
        if self.held:
            values |= self.held
        for step in self.steps:
            step(values)
        return [values[index] for index in self.outputs]

    def backward(self, gradients: Sequence[Any], wanted: Sequence[bool]) -> Gradients:
        """Write the gradients of the parameters, and return the inputs'; see `Layer`."""
        given = [(y, g) for y, g in zip(self.results, gradients, strict=True) if g is not None]
        leaves = [x for x, want in zip(self.leaves, wanted, strict=True) if want]
        outputs, outer = zip(*given, strict=True)
        found = torch.autograd.grad(outputs, [*leaves, *self.parameters.values()], outer, materialize_grads=True)
        self.leaves, self.results = [], []
        for name, gradient in zip(self.parameters, found[len(leaves) :], strict=True):
            self.gradients[name].copy_(gradient)
        inner = iter(found)
        return [next(inner) if want else None for want in wanted]


@dataclass(slots=True)
class _Node:
    """An entry of the tape.

    Attributes:
        layer: The layer.
        inputs: Numbers of the values that it gets.
        outputs: Numbers of the values that it returns.
        wanted: Whether the gradient of each input is wanted.
        trained: Whether an output has a gradient.
        names: The model's names of the layer's parameters, by the layer's own.
        ended: Numbers of the values that are used here for the last time.
        added: Gradients that the layer writes, and the views that they are to be added to.
    """

    layer: Layer
    inputs: list[int]
    outputs: list[int]
    wanted: list[bool]
    trained: bool
    names: dict[str, str]
    ended: list[int]
    added: list[tuple[Tensor, Tensor]]


class Tape:
    """Runs a recorded computation forward and backward for all agents.

    Args:
        recording: The computation of one agent.
        state: The agents' state, whose views the layers use.
        keys: Holds the agents' keys for dropout.
    """

    def __init__(self, recording: Recording, state: StackedState, keys: Keys) -> None:
        if recording.output is None:
            raise ValueError("the recording has not ended")
        self.state = state
        self.keys = keys
        self.inputs = [value.index for value in recording.inputs]
        self.output = recording.output.index
        self.operations = _needed(recording)
        self.uses: dict[int, int] = {self.output: 1}
        for operation in self.operations:
            for value in operation.inputs:
                self.uses[value.index] = self.uses.get(value.index, 0) + 1
        self.nodes: list[_Node] = []
        self.affine: set[int] = set()
        self._build()
        self._share_gradients()
        self._end_values()
        self.passes = [(node.layer.forward, node.inputs, node.outputs) for node in self.nodes]

    def _build(self) -> None:
        """Gather the operations into layers and segments.

        A result is as deep as the layers that it went through, so that a segment can hold all operations of one depth:
        no way leads out of it and back.
        """
        depths: dict[int, int] = {}
        layers: dict[int, list[tuple[Operation, Layer, dict[str, str]]]] = {}
        segments: dict[int, list[Operation]] = {}
        for operation in self.operations:
            depth = max(depths.get(value.index, 0) for value in operation.inputs)
            if found := self._layer(operation):
                layers.setdefault(depth, []).append((operation, *found))
                depth += 1
            else:
                segments.setdefault(depth, []).append(operation)
            depths |= dict.fromkeys((value.index for value in operation.outputs), depth)
        for depth in range(max([*layers, *segments], default=-1) + 1):
            if depth in segments:
                self._append_segment(segments[depth])
            for operation, layer, names in layers.get(depth, ()):
                used = set(names.values())
                self._append(layer, [v for v in operation.inputs if v.name not in used], operation.outputs, names)

    def _append(self, layer: Layer, inputs: list[Value], outputs: list[Value], names: dict[str, str]) -> None:
        numbers = [value.index for value in inputs], [value.index for value in outputs]
        trained = any(value.trained for value in outputs)
        self.nodes.append(_Node(layer, *numbers, [value.trained for value in inputs], trained, names, [], []))

    def _append_segment(self, operations: list[Operation]) -> None:
        made = {value for operation in operations for value in operation.outputs}
        used = list(dict.fromkeys(v for o in operations for v in o.inputs if v not in made))
        inside: dict[int, int] = {}
        for operation in operations:
            for value in operation.inputs:
                inside[value.index] = inside.get(value.index, 0) + 1
        outputs = [v for o in operations for v in o.outputs if self.uses.get(v.index, 0) > inside.get(v.index, 0)]
        state = self.state
        held = {v.index: (state.parameter_views if v.trained else state.buffers)[v.name] for v in used if v.name}
        names = {value.name: value.name for value in used if value.name and value.trained}
        parameters = {name: state.parameter_views[name] for name in names}
        inputs = [value for value in used if not value.name]
        numbers = [value.index for value in outputs]
        self._append(Segment(operations, inputs, numbers, parameters, held, self.keys), inputs, outputs, names)

    def _layer(self, operation: Operation) -> tuple[Layer, dict[str, str]] | None:
        """Return an operation's layer, and the model's names of its parameters, if it has a layer of its own."""
        function = operation.function
        if operation.constant:
            return None
        if function in ACTIVATIONS:
            (source,) = operation.inputs
            if source.name:
                return None
            alone = source.index in self.affine and self.uses[source.index] == 1
            return Activation(*ACTIVATIONS[function], in_place=alone), {}
        if keeps_order(operation) and not any(value.trained or value.name for value in operation.inputs):
            return Reshape((self.state.num_agents, *operation.outputs[0].shape)), {}
        make = _LAYERS.get(function)
        if make is None:
            return None
        args, kwargs = operation.arguments(operation.leaves)
        if not accepts(make, self.state, *args, **kwargs):
            return None
        found = make(self.state, *args, **kwargs)
        if found and isinstance(found[0], Affine):
            self.affine.add(operation.outputs[0].index)
        return found

    def _share_gradients(self) -> None:
        """Let the layer that comes first in the backward pass write a parameter's gradient, and the others add."""
        written: set[str] = set()
        views = self.state.gradient_views
        for node in reversed(self.nodes):
            for own, name in node.names.items():
                if name in written:
                    node.layer.gradients[own] = torch.empty_like(views[name])
                    node.added.append((node.layer.gradients[own], views[name]))
                else:
                    node.layer.gradients[own] = views[name]
                    written.add(name)
        self.unused = [view for name, view in views.items() if name not in written]
        # The others have neither parameters nor inputs that depend on them, or only results without a gradient.
        self.differentiable = [node for node in reversed(self.nodes) if node.trained]
        self.unused += [v for node in self.nodes if not node.trained for v in node.layer.gradients.values()]

    def _end_values(self) -> None:
        ended = {self.output}
        for node in reversed(self.nodes):
            node.ended = [index for index in (*node.inputs, *node.outputs) if index not in ended]
            ended |= set(node.ended)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Compute the result.

        Args:
            inputs: Inputs of all agents, [N, B, ...].

        Returns:
            The result, with a leading axis N.
        """
        values = dict(zip(self.inputs, inputs, strict=True))
        for run, given, made in self.passes:
            found = run(*[values[index] for index in given])
            if len(made) == 1:  # the usual case
                values[made[0]] = found[0]
            else:
                values.update(zip(made, found, strict=True))
        return values[self.output]

    def value(self, inputs: Sequence[Tensor]) -> Tensor:
        """Compute the result, keeping each activation only until its last use.

        Args:
            inputs: Inputs of all agents, [N, B, ...].

        Returns:
            The result, with a leading axis N.
        """
        values = dict(zip(self.inputs, inputs, strict=True))
        for node in self.nodes:
            found = node.layer.value(*[values[i] for i in node.inputs])
            values.update(zip(node.outputs, found, strict=True))
            for index in node.ended:
                del values[index]
        return values[self.output]

    def backward(self, gradient: Tensor) -> None:
        """Write the parameters' gradients into the state.

        Args:
            gradient: Gradient of the result.
        """
        gradients: dict[int, Tensor] = {self.output: gradient}
        for node in self.differentiable:
            given = [gradients.pop(index, None) for index in node.outputs]
            if not any([g is not None for g in given]):  # nothing of the result depends on it
                for view in node.layer.gradients.values():
                    view.zero_()
                continue
            for index, inner in zip(node.inputs, node.layer.backward(given, node.wanted), strict=True):
                if inner is not None:
                    before = gradients.get(index)
                    gradients[index] = inner if before is None else before + inner
            for scratch, view in node.added:
                view.add_(scratch)
        for view in self.unused:
            view.zero_()


def _needed(recording: Recording) -> list[Operation]:
    """Return the operations that the result depends on, or that write buffers."""
    needed = {recording.output}
    kept = []
    for operation in reversed(recording.operations):
        writes_buffer = operation.writes and bool(operation.outputs[0].name)
        if writes_buffer or needed.intersection(operation.outputs):
            needed.update(operation.inputs)
            kept.append(operation)
    return kept[::-1]


_Found = tuple[Layer, dict[str, str]] | None


def _views(state: StackedState, **parts: object) -> tuple[Views, dict[str, str]] | None:
    """Return views of parameters and their names; None if one of the parts is another tensor."""
    names = {}
    for own, part in parts.items():
        if isinstance(part, Value) and part.trained and part.name:
            names[own] = part.name
        elif part is not None:
            return None
    return {own: state.parameter_views[name] for own, name in names.items()}, names


def _affine(state: StackedState, x: object, weight: object, bias: object = None) -> _Found:
    found = _views(state, weight=weight, bias=bias)
    if found is None or not (isinstance(x, Value) and len(x.shape) > 1 and not x.name):
        return None
    return Affine(found[0], {}), found[1]


def _embedding(
    state: StackedState, weight: object, words: object, padding: int = -1, scaled: bool = False, sparse: bool = False
) -> _Found:
    found = _views(state, weight=weight)
    if found is None or (isinstance(words, Value) and words.name):
        return None
    return Embedding(found[0], {}, words if isinstance(words, Tensor) else None, padding, scaled=scaled), found[1]


def _layer_norm(
    state: StackedState,
    x: object,
    shape: Sequence[int],
    weight: object = None,
    bias: object = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> _Found:
    found = _views(state, weight=weight, bias=bias)
    if found is None or not (isinstance(x, Value) and not x.name):
        return None
    return LayerNorm(found[0], {}, shape, eps), found[1]


def _rms_norm(
    state: StackedState, x: object, shape: Sequence[int], weight: object = None, eps: float | None = None
) -> _Found:
    found = _views(state, weight=weight)
    if found is None or not (isinstance(x, Value) and not x.name):
        return None
    return RMSNorm(found[0], {}, shape, eps), found[1]


def _sum(state: StackedState, x: object, y: object, *, alpha: float = 1) -> _Found:
    return (Sum(), {}) if alpha == 1 and _alike(x, y) else None


def _alike(x: object, y: object) -> bool:
    """Return whether both are results with gradients, of the same shape and type."""
    if not (isinstance(x, Value) and isinstance(y, Value)) or x is y or (x.shape, x.dtype) != (y.shape, y.dtype):
        return False
    return x.trained and y.trained and not (x.name or y.name)


_LAYERS: dict[Callable[..., Any], Callable[..., _Found]] = {
    torch._C._nn.linear: _affine,
    torch.embedding: _embedding,
    torch.layer_norm: _layer_norm,
    torch.rms_norm: _rms_norm,
    **dict.fromkeys(functions_named("add", "__add__"), _sum),
}
"""Make layers from the arguments of functions."""
