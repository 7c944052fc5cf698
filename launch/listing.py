"""The components that an experiment can name: what each is, and where it comes from."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from basinet.algorithms.attacks import ATTACKS
from basinet.algorithms.optimizers import OPTIMIZERS, TUNINGS
from basinet.algorithms.schedules import SCHEDULES
from basinet.algorithms.strategies import STRATEGIES
from basinet.analysis.catalogue import MEASURES
from basinet.sim.augmentations import AUGMENTATIONS
from basinet.sim.escape import ESCAPES
from basinet.sim.models import MODELS
from basinet.sim.partitions import PARTITIONS
from basinet.sim.tasks import TASKS
from basinet.topologies import POLICIES, SEQUENCES, TOPOLOGIES

__all__ = ["first_lines", "list_components"]

_REGISTRIES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "topologies": {**TOPOLOGIES, **SEQUENCES},
    "policies": POLICIES,
    "strategies": STRATEGIES,
    "attacks": ATTACKS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "tunings": TUNINGS,
    "tasks": TASKS,
    "models": MODELS,
    "partitions": PARTITIONS,
    "augmentations": AUGMENTATIONS,
    "escapes": ESCAPES,
}

_IDENTIFIER = re.compile(r"arXiv:\S*\w|doi:\S*\w|https?://\S*\w")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_NAME = r"[^\W\d_a-z][\w-]*"
_SHORT = {"https://arxiv.org/abs/": "arXiv:", "https://doi.org/": "doi:"}


def list_components(kinds: Iterable[str]) -> dict[str, dict[str, dict[str, str | None]]]:
    """List what an experiment can name.

    Args:
        kinds: Kinds of component, such as "topologies", or "measures".

    Returns:
        For each kind and name "about", the first line of the component's documentation, and "source", its first
        reference in short, or None.
    """
    return {
        kind: {name: {"about": line, "source": None} for name, line in MEASURES.items()}
        if kind == "measures"
        else {
            name: {"about": line, "source": _source(inspect.getdoc(_REGISTRIES[kind][name]) or "")}
            for name, line in first_lines(_REGISTRIES[kind]).items()
        }
        for kind in kinds
    }


def first_lines(registry: Mapping[str, Callable[..., Any]]) -> dict[str, str]:
    """Collect what a registry's entries say of themselves.

    Args:
        registry: Documented callables by name.

    Returns:
        The first line of each entry's documentation, in the order of the names.
    """
    return {name: (inspect.getdoc(maker) or "").partition("\n")[0] for name, maker in sorted(registry.items())}


def _source(documentation: str) -> str | None:
    """Shorten the first reference of a docstring to authors, venue, year and identifier."""
    section = re.search(r"^References:\n((?: .*\n?)+)", documentation, flags=re.MULTILINE)
    if section is None:
        return None
    text = " ".join(section[1].split())
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
    """Take the authors of "A. One, B. Two: Title" or of "One and Two, Title"; of more than two the first."""
    if re.match(r"(?:\w\.[ -]?)+", reference):
        names = reference.partition(": ")[0].split(", ")
    else:
        match = re.match(rf"(?:{_NAME}, )*{_NAME} and {_NAME}(?=,)|{_NAME} et al\.|{_NAME}", reference)
        names = re.split(", | and ", match[0] if match else reference)
    return f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
