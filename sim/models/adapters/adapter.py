"""Adapters: small trained additions to the layers of a model whose own parameters stay as they are."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

from torch import nn

from basinet.sim.models.patterns import fits, matched
from basinet.topologies.registry import Registry

__all__ = ["ADAPTERS", "AdaptedLayer", "Adapter", "added_parameters", "attach", "merge"]


class AdaptedLayer(nn.Module, ABC):
    """A layer with an adapter, whose own parameters have the names that they have in the plain layer."""

    added: ClassVar[tuple[str, ...]]
    """Names of the adapter's parameters in the layer."""

    @abstractmethod
    def merged(self) -> nn.Module:
        """Return a plain layer that computes the same."""


class Adapter(Protocol):
    """A kind of adapter, with its settings."""

    targets: tuple[str, ...]
    """The layers to adapt, by name."""

    def adapt(self, layer: nn.Module) -> nn.Module | None:
        """Return the layer with an adapter, sharing its parameters; None for a type of layer that has none."""


ADAPTERS: Registry[Adapter] = Registry("ADAPTERS")
"""The adapters that an experiment can name."""


def attach(model: nn.Module, adapter: Adapter) -> nn.Module:
    """Adapt the chosen layers of a model.

    Args:
        model: The model; changed in place.
        adapter: Adapts a layer; patterns choose among all layers that it can adapt.

    Returns:
        The model, or what takes its place if it is itself such a layer.

    Raises:
        ValueError: A pattern matches no layer that can be adapted.
    """
    able: dict[str, tuple[nn.Module, nn.Module]] = {}
    for name, layer in model.named_modules():
        if fits(name, adapter.targets) and (adapted := adapter.adapt(layer)) is not None:
            able[name] = layer, adapted
    matched(adapter.targets, able, "layer that can be adapted", dict(model.named_modules()))
    model = _replace(model, {id(layer): adapted for layer, adapted in able.values()})
    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer) and added_parameters(layer):
            # Its fast path in evaluation mode reads the weights of its layers without calling them.
            layer.activation_relu_or_gelu = 0
    return model


def added_parameters(model: nn.Module) -> set[str]:
    """Return the names of the adapters' parameters.

    Args:
        model: A model.

    Returns:
        Their names in the model.
    """
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, AdaptedLayer)]
    return {f"{name}.{own}".removeprefix(".") for name, layer in layers for own in layer.added}


def merge(model: nn.Module) -> nn.Module:
    """Fold the adapters into the layers.

    Args:
        model: The model; changed in place.

    Returns:
        A model of plain layers that computes the same, up to rounding.

    Raises:
        ValueError: The weight of an adapted layer is that of another module, too, which the adapter does not change.
    """
    holders: dict[int, list[str]] = {}
    for name, module in model.named_modules():  # one under several names counts once
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            holders.setdefault(id(parameter), []).append(f"{name}.{key}".removeprefix("."))
    others: dict[int, nn.Module] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, AdaptedLayer):
            others[id(layer)] = merged = layer.merged()
            kept = {*layer.added, *(key for key, p in merged.named_parameters() if p is getattr(layer, key))}
            changed = [p for key, p in layer.named_parameters(recurse=False) if key not in kept]
            if tied := next((names for p in changed if len(names := holders[id(p)]) > 1), None):
                raise ValueError(f"the adapter of {name} cannot be merged, since one tensor is {' and '.join(tied)}")
    return _replace(model, others)


def _replace(model: nn.Module, others: dict[int, Any]) -> nn.Module:
    """Put other layers in the place of some, under all names that they have."""
    for layer in list(model.modules()):
        for name, child in layer._modules.items():
            if id(child) in others:
                layer._modules[name] = others[id(child)]
    replaced: nn.Module = others.get(id(model), model)
    return replaced
