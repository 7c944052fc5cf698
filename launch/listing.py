"""Descriptions of the components that an experiment can name, and of its keys."""

import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from basinet.algorithms.optimizers import TUNINGS
from basinet.sim.evaluation.metric import Metric
from basinet.sim.experiment.component import Component, ExperimentError, Kind, nearest
from basinet.sim.experiment.config import KINDS, Config
from basinet.sim.experiment.digest import plain
from basinet.sim.run.quantity import Quantity
from basinet.sim.setup.start import Start
from basinet.sim.tasks import Noise

__all__ = [
    "LISTED",
    "describe_component",
    "describe_keys",
    "describe_settings",
    "first_lines",
    "kinds_of",
    "list_components",
    "source_in",
]

_KINDS: dict[str, Kind] = {
    "topologies": KINDS["topology"],
    "policies": KINDS["policy"],
    "strategies": KINDS["strategy"],
    "attacks": KINDS["attack"],
    "networks": KINDS["network"],
    "all_reduces": KINDS["all_reduce"],
    "faults": KINDS["faults"],
    "optimizers": KINDS["optimizer"],
    "schedules": KINDS["schedule"],
    "averagings": KINDS["averaging"],
    "tunings": Kind("optimizer.tuned", TUNINGS, ("method", "steps")),
    "tasks": KINDS["task"],
    "models": KINDS["model"],
    "adapters": KINDS["adapters"],
    "partitions": KINDS["partition"],
    "augmentations": KINDS["augmentation"],
    "laws": KINDS["compute"],
    "escapes": KINDS["escape"],
    "metrics": KINDS["metrics"],
    "measures": KINDS["analysis"],
    "loggers": KINDS["loggers"],
}

LISTED = tuple(_KINDS)
"""The kinds of component that an experiment can name."""

_IDENTIFIER = re.compile(r"arXiv:\S*\w|doi:\S*\w|https?://\S*\w")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_NAME = r"[^\W\d_a-z][\w-]*"
_SHORT = {"https://arxiv.org/abs/": "arXiv:", "https://doi.org/": "doi:"}


def list_components(kinds: Iterable[str]) -> dict[str, dict[str, dict[str, str | None]]]:
    """List the components that an experiment can name.

    Args:
        kinds: Kinds of component, such as "topologies", or "measures".

    Returns:
        For each kind and name "about", the first line of the component's documentation, and "source", its first
        reference in short, or None.
    """
    return {
        kind: {
            name: {"about": line, "source": source_in(inspect.getdoc(_KINDS[kind].registry[name]) or "")}
            for name, line in first_lines(_KINDS[kind].registry).items()
        }
        for kind in kinds
    }


def kinds_of(name: str) -> list[str]:
    """Return the kinds that have a component of a name.

    Args:
        name: The component.

    Returns:
        The kinds.
    """
    return [kind for kind, known in _KINDS.items() if name in known.registry]


def describe_component(kind: str, name: str) -> dict[str, Any]:
    """Describe a component that an experiment can name.

    Args:
        kind: A kind of component, such as "topologies", or "measures".
        name: The component.

    Returns:
        "name"; "about", the first line of its documentation; "description", the rest up to its sections; "formula", the
        parts of it that are formulas; "settings", a mapping from each to "type", "default" (or "needed") and "about";
        and "source", its first reference in short; of a measure or metric also its "label" and the "direction" that is
        better. Missing parts are None.

    Raises:
        ExperimentError: The component does not exist.
    """
    known = _KINDS[kind].registry
    if name not in known:
        raise ExperimentError(f"list: there is no '{name}' among the {kind}; {nearest(name, known)}")
    maker = known[name]
    documentation = inspect.getdoc(maker) or ""
    about, *paragraphs = _sections(documentation)[""].split("\n\n")
    paragraphs = [p if p.startswith("|") else " ".join(p.split()) for p in paragraphs if not p.startswith((".. ", " "))]
    quantity = _quantity(maker, name)
    if quantity is not None:
        if quantity.about != about.rstrip("."):  # one of several names
            paragraphs.insert(0, " ".join(about.split()))
        about = quantity.about
    return {
        "name": name,
        "about": " ".join(about.split()),
        **({"label": quantity.axis, "direction": quantity.direction} if quantity else {}),
        "description": "\n\n".join(paragraphs) or None,
        "formula": _formula([about, *paragraphs]),
        "settings": describe_settings(_KINDS[kind], name),
        "source": source_in(documentation),
    }


def describe_settings(kind: Kind, name: str) -> dict[str, dict[str, Any]]:
    """Describe the settings of a component.

    Args:
        kind: The kind.
        name: The component.

    Returns:
        A mapping from each to "type", "default" (or "needed") and "about".
    """
    documented = _documented(kind.registry[name])
    return {
        setting: {
            "type": _in_words(parameter.annotation),
            **_default(parameter),
            "about": documented.get(setting) or _described(parameter.annotation),
        }
        for setting, parameter in kind.settings(name).items()
    }


def describe_keys(model: type[BaseModel] = Config) -> dict[str, dict[str, Any]]:
    """Describe the keys of an experiment.

    Args:
        model: The experiment, or a part of it.

    Returns:
        A mapping from each key, dotted inside parts, to "type", "default" (or "needed") and "about", as
        `describe_component` describes settings.
    """
    types, documented = get_type_hints(model, include_extras=True), _documented(model)
    found: dict[str, dict[str, Any]] = {}
    for key, known in model.model_fields.items():
        default = {"needed": True} if known.is_required() else {"default": plain(known.get_default())}
        found[key] = {"type": _in_words(types[key]), **default, "about": documented.get(key)}
        for part in (known.annotation, *get_args(known.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found[key].pop("default", None)
                inner = describe_keys(part).items()
                found |= {f"{key}.{'name' if name == 'component' else name}": about for name, about in inner}
    return found


def _default(parameter: inspect.Parameter) -> dict[str, Any]:
    if parameter.kind is parameter.VAR_KEYWORD:  # stands for further settings
        return {}
    return {"needed": True} if parameter.default is parameter.empty else {"default": plain(parameter.default)}


def _described(annotation: Any) -> str | None:
    """Return the description in a type's annotation."""
    fields = [part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, FieldInfo)]
    return next((field.description for field in fields), None)


def _sections(documentation: str) -> dict[str, str]:
    """Split a Google-style docstring into sections by heading; what precedes them has the key ""."""
    first, *others = re.split(r"^([A-Z][a-z]+):\n((?: .*\n?|\n)+)", documentation, flags=re.MULTILINE)
    return {"": first.strip(), **dict(zip(others[::3], map(textwrap.dedent, others[1::3]), strict=True))}


def _documented(maker: Any) -> dict[str, str]:
    """Collect the descriptions of a maker's parameters, of a class also those it inherits."""
    found: dict[str, str] = {}
    for owner in maker.__mro__ if isinstance(maker, type) else [maker]:
        sections = _sections(inspect.getdoc(owner) or "")
        section = sections.get("Args", "") + sections.get("Attributes", "")
        parts = re.split(r"^\*{0,2}(\w+)(?: \([^)]*\))?:", section, flags=re.MULTILINE)
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            if name not in found or found[name].startswith("See "):
                found[name] = " ".join(text.partition("\n\n")[0].split())
    return found


def _formula(paragraphs: Iterable[str]) -> str | None:
    """Select the table rows and sentences that are or hold formulas."""
    sentences = [
        s.rstrip(".")
        for paragraph in paragraphs
        for s in (
            [", ".join(cell.strip() for cell in row.strip("|").split("|")) for row in paragraph.splitlines()]
            if paragraph.startswith("|")
            else re.split(r"(?<=\.)\s+", " ".join(paragraph.split()))
        )
    ]
    pattern = r"[←→]|``[^`]* = |: ``|(?:^|[:,] |of )\S{1,20} = "
    return ".  ".join(s for s in sentences if re.search(pattern, s)).replace("``", "") or None


_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": ", length ≥"}


def _in_words(annotation: Any) -> str | None:
    """Write a type as it looks in an experiment."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in (Any, inspect.Parameter.empty) or isinstance(annotation, str):
        return None
    if annotation in (None, type(None)):
        return "null"
    if annotation is bool:
        return "true | false"
    if origin is Annotated:
        metadata = [
            part for field in parts[1:] for part in (field.metadata if isinstance(field, FieldInfo) else [field])
        ]
        bounds = [
            f"{sign} {getattr(part, name)}"
            for part in metadata
            for name, sign in _BOUNDS.items()
            if hasattr(part, name)
        ]
        return " ".join([str(_in_words(parts[0])), " and ".join(bounds)]).replace(" ,", ",").strip()
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (Union, types.UnionType):
        return " | ".join(str(_in_words(part)) for part in parts if part is not torch.Tensor)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Component | BaseModel | Start | Noise):
        return "name | mapping"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        inner = list(dict.fromkeys(str(_in_words(part)) for part in parts if part is not ...))
        return f"list of {' and '.join(inner)}"
    return str(getattr(annotation, "__name__", annotation))


def first_lines(registry: Mapping[str, Callable[..., Any]]) -> dict[str, str]:
    """Collect the descriptions of a registry's entries.

    Args:
        registry: Documented callables by name.

    Returns:
        The first line of each entry's documentation, in the order of the names; for entries with several names, the
        description of each name, in the order of the registry.
    """
    if all(hasattr(maker, "quantities") for maker in registry.values()):
        return {name: maker.quantities[name].about for name, maker in registry.items()}  # type: ignore[attr-defined]
    return {name: (inspect.getdoc(maker) or "").partition("\n")[0] for name, maker in sorted(registry.items())}


def _quantity(maker: Any, name: str) -> Quantity | None:
    """Return the quantity of a measure by one of its names, or that of a metric; None for other components."""
    if isinstance(maker, type) and issubclass(maker, Metric):
        found: Quantity = maker().quantity()
        return found
    return maker.quantities[name] if hasattr(maker, "quantities") else None


def source_in(documentation: str) -> str | None:
    """Shorten the first reference of a docstring.

    Args:
        documentation: The docstring.

    Returns:
        Authors, venue, year and identifier; None if there is no reference.
    """
    references = _sections(documentation).get("References")
    if references is None:
        return None
    text = " ".join(references.split())
    found = _IDENTIFIER.search(text)
    identifier = found[0] if found else ""
    for long, short in _SHORT.items():
        identifier = identifier.replace(long, short)
    # "…, IEEE TSP 67 (2019), doi:…" or "…, https://…, 2019"; years of other references come later.
    before, after = (text[: found.start()], text[found.end() : found.end() + 6]) if found else (text, "")
    venue = re.search(r", ([A-Z][^,]{,30}?)(?: \d+)? \(?(\d{4})\)?, $", before)
    years = _YEAR.findall(after) or _YEAR.findall(before)
    published = [" ".join(venue.groups())] if venue else years[-1:]
    return ", ".join(filter(None, [_authors(text), *published, identifier]))


def _authors(reference: str) -> str:
    """Return the authors of "A. One, B. Two: Title" or "One and Two, Title"; of more than two, the first."""
    if re.match(r"(?:\w\.[ -]?)+", reference):
        names = reference.partition(": ")[0].split(", ")
    else:
        match = re.match(rf"(?:{_NAME}, )*{_NAME} and {_NAME}(?=,)|{_NAME} et al\.|{_NAME}", reference)
        names = re.split(", | and ", match[0] if match else reference)
    return f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
