"""Frozen parameters: which they are, and models that hold them as buffers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from basinet.sim.models.patterns import fits, matched

__all__ = ["choose_trained", "frozen_parameters", "held_parameters", "hold_frozen", "model_of"]

_HELD = "held_parameters"

_KEYS = ("adapters", "frozen", "trained")
"""Keys of an experiment that freeze parameters."""


def choose_trained(
    model: nn.Module, frozen: Sequence[str], trained: Sequence[str], added: Collection[str] = ()
) -> nn.Module:
    """Freeze parameters of a model.

    Args:
        model: The model; changed in place.
        frozen: Names of parameters that are frozen, where * stands for any characters.
        trained: If given, names of those that are trained; all others are frozen.
        added: Names of the adapters' parameters; if there are any, they are trained, and all others frozen that
            `trained` does not name.

    Returns:
        The model.

    Raises:
        ValueError: A pattern matches no parameter; the message begins with the key.
    """
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for key, patterns in (("frozen", frozen), ("trained", trained)):
        try:
            matched(patterns, names)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    of_each: dict[nn.Parameter, list[str]] = {}  # a tensor may have several names
    for name, parameter in model.named_parameters(remove_duplicate=False):
        of_each.setdefault(parameter, []).append(name)
    for parameter, own in of_each.items():
        chosen = not (trained or added) or any(name in added or fits(name, trained) for name in own)
        if not chosen or any(fits(name, frozen) for name in own):
            parameter.requires_grad_(False)
    return model


def model_of(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what distinguishes the models of two runs, as functions of the trained parameters.

    Args:
        config: The configuration of a run, in plain values.

    Returns:
        The values of its keys, among them the start, if frozen parameters have their values from there.
    """
    chosen = [config.get(key) for key in _KEYS]
    return (config.get("model"), *chosen, config.get("start") if any(chosen) else None)


def frozen_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return the values of the frozen parameters that all agents share.

    Args:
        model: A model.

    Returns:
        Tensors by name.
    """
    return {name: p.data for name, p in model.named_parameters() if not p.requires_grad}


def hold_frozen(model: nn.Module) -> nn.Module:
    """Turn frozen parameters into buffers of the same names, of which each agent has its own.

    Args:
        model: The model; changed in place.

    Returns:
        The model.
    """
    for layer in model.modules():
        names = tuple(name for name, p in layer._parameters.items() if p is not None and not p.requires_grad)
        for name in names:
            parameter = layer._parameters.pop(name)
            assert parameter is not None
            layer.register_buffer(name, parameter.data)
        if names:
            vars(layer)[_HELD] = names
    return model


def held_parameters(model: nn.Module) -> set[str]:
    """Return the names of the buffers that hold frozen parameters.

    Args:
        model: A model.

    Returns:
        Their names in the model.
    """
    layers = [(prefix, vars(layer).get(_HELD, ())) for prefix, layer in model.named_modules()]
    return {f"{prefix}.{name}".removeprefix(".") for prefix, names in layers for name in names}
