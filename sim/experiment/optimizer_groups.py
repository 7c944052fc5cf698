"""Parameter groups in an experiment: some layers, found by name, step with settings of their own."""

import fnmatch
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from basinet.algorithms.optimizers.parameter_groups import ParameterGroup, divide
from basinet.sim.experiment.component import Component
from basinet.sim.experiment.mistakes import ExperimentError, nearest, shown
from basinet.sim.experiment.signatures import sentence, settings_model
from basinet.sim.models.patterns import first_names

__all__ = ["RATE_FACTOR", "LayerDecay", "divide_parameters", "groups_of"]

_KEY = "optimizer.groups"

RATE_FACTOR = "rate_factor"
"""What the learning rate of a group is multiplied by, in its settings."""

LayerDecay = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="The learning rate of each layer, divided by that of the next one, up to the last, which has that"
        " of its group. A layer is what the names of parameters have in common up to their first numbers, such as"
        " blocks.2, or without numbers up to the last point; layers are in the order of the model's parameters.",
    ),
]
"""The type of an optimizer's setting `layer_decay`."""

_IMPLEMENTATION = frozenset({"capturable", "differentiable", "foreach", "fused"})
"""Settings of torch's optimizers that say how a step is executed, which is the same for all groups."""


def groups_of(settings: Mapping[str, inspect.Parameter], bounds: Mapping[str, Any]) -> Any:
    """Return the type of an optimizer's setting `groups`.

    Args:
        settings: The optimizer's other settings.
        bounds: Bounds of settings that have none in its signature.

    Returns:
        A type that validates a list of groups.
    """
    # What an optimizer needs is given outside of its groups.
    optional = {
        name: setting.replace(default=None)
        if setting.default is setting.empty and setting.kind is not setting.VAR_KEYWORD
        else setting
        for name, setting in settings.items()
        if name not in _IMPLEMENTATION
    }
    model, names = settings_model("Group", optional, bounds)

    def parse(given: Any) -> dict[str, Any]:
        if not isinstance(given, Mapping) or not given.get("match"):
            raise ExperimentError(
                f"{_KEY}: got {shown(given)}; allowed are mappings with match, names of parameters such as '*.bias',"
                " and settings of their own"
            )
        match = [given["match"]] if isinstance(given["match"], str) else given["match"]
        if not (isinstance(match, list | tuple) and all(isinstance(pattern, str) for pattern in match)):
            raise ExperimentError(
                f"{_KEY}.match: got {shown(match)}; allowed is a name of parameters, or a list of them"
            )
        own = {key: value for key, value in given.items() if key != "match"}
        unknown = next((key for key in own if key not in names and model.model_config.get("extra") != "allow"), None)
        if unknown is not None:
            choice = nearest(str(unknown), ["match", *names])
            raise ExperimentError(f"{_KEY}.{unknown}: a group has no setting '{unknown}'; {choice}")
        try:
            checked = model.model_validate(own)
        except ValidationError as error:
            raise ExperimentError(sentence(error, _KEY, names)) from None
        values = {info.alias or key: getattr(checked, key) for key, info in type(checked).model_fields.items()}
        return {"match": list(match), **{key: values.get(key, value) for key, value in own.items()}}

    return Annotated[
        tuple[Annotated[Mapping[str, Any], BeforeValidator(parse)], ...] | None,
        Field(
            description="Parameters with settings of their own: mappings of match, a name or several with * for any"
            " characters, and the settings. A parameter belongs to the first group that matches, or else has the"
            " optimizer's settings. Schedules scale the learning rate of every group."
        ),
    ]


def divide_parameters(optimizer: Component, names: Mapping[str, Sequence[str]]) -> list[ParameterGroup]:
    """Divide a model's parameters among the groups of its optimizer.

    Args:
        optimizer: The optimizer.
        names: All names of each trained parameter by its first.

    Returns:
        The groups, none of them empty; none if the optimizer treats all parameters alike. With `layer_decay`, each
        layer has groups of its own, with their `RATE_FACTOR`.

    Raises:
        ExperimentError: A pattern matches no parameter, or a group only those of earlier ones.
    """
    asked = optimizer.settings.get("groups") or ()
    given = [{**group, "match": first_names(group["match"], names)} for group in asked]
    for number, group in enumerate(given, 1):
        for pattern in group["match"]:
            if not fnmatch.filter(names, pattern):
                raise ExperimentError(
                    f"{_KEY}: no parameter fits '{pattern}' of group {number}; {nearest(pattern, names)}"
                )
    groups = divide(given, list(names))
    for number, (_, layers) in enumerate(groups[:-1], 1):
        if not layers:
            raise ExperimentError(
                f"{_KEY}: group {number} is empty, since earlier ones match all of its parameters; a"
                " parameter belongs to the first group that matches"
            )
    decay = optimizer.settings.get("layer_decay") or 1.0
    if decay < 1:
        groups = _by_layer(groups, list(names), decay)
    return [group for group in groups if group[1]] if len(groups) > 1 else []


def _by_layer(groups: Sequence[ParameterGroup], names: Sequence[str], decay: float) -> list[ParameterGroup]:
    """Divide groups further, so that each has parameters of one layer."""
    layers = [_layer_of(name) for name in names]
    above = {layer: number for number, layer in enumerate(reversed(dict.fromkeys(layers)))}
    return [
        ({**own, RATE_FACTOR: decay**number}, [place for place in members if layers[place] == layer])
        for own, members in groups
        for layer, number in above.items()
    ]


def _layer_of(name: str) -> str:
    """Return the layer that a parameter belongs to, by its name; see `LayerDecay`."""
    numbered = re.match(r"(?:.*?\.)?\d+(?:\.\d+)*(?=\.)", name)
    return numbered[0] if numbered else name.rpartition(".")[0]
