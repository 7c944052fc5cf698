"""Base classes of measures, and the selection of those that an experiment asks for."""

import copy
import inspect
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import Field
from torch import Tensor

from basinet.analysis.curvature.trace import Estimate
from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.digest import plain
from basinet.sim.run.quantity import QUANTITIES, Direction, Quantity
from basinet.sim.run.records import Row

if TYPE_CHECKING:
    from basinet.analysis.measures.measured import Network, Points

__all__ = [
    "Asked",
    "Count",
    "Found",
    "Measure",
    "Needs",
    "NetworkMeasure",
    "PointMeasure",
    "Positive",
    "Spread",
    "add",
    "asked_for",
    "estimated",
]

Count = Annotated[int, Field(ge=1, le=10**6)]
Spread = Annotated[int, Field(ge=2, le=10**6)]
"""A number of random draws, large enough for a spread."""

Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Needs:
    """What a measure needs besides a loss.

    Attributes:
        samples: Individual samples of the agents.
        whole: All samples: the measure is not taken on those of a single agent.
        krylov: Memory for a Krylov basis of its own.
        snapshot: The spectrum of the Hessian shared by all measures, see `Points.snapshot`.
        probes: Random probes of the trace in the snapshot.
        top: Number of largest eigenvalues, or their vectors.
        bottom: Number of smallest eigenvalues.
        centroid: A centroid, whichever points are measured.
        weights: A layer with a weight matrix.
        graph: The mixing matrix: runs that differ only in their graph have different values.
        mode: The mode in which the analysis puts the model; the names of the values then state it.
    """

    samples: bool = False
    whole: bool = False
    krylov: bool = False
    snapshot: bool = False
    probes: bool = False
    top: int = 0
    bottom: int = 0
    centroid: bool = False
    weights: bool = False
    graph: bool = False
    mode: bool = True

    @property
    def basis(self) -> bool:
        """Whether memory for a Krylov basis is needed."""
        return self.krylov or self.snapshot

    def __or__(self, other: Self) -> Self:
        return type(self)(*map(max, astuple(self), astuple(other)))


class Found(NamedTuple):
    """The result of a measure.

    Attributes:
        rows: Values by name: for a point measure one row per point; for a network measure rows with their `agent`, or
            without one for the centroid.
        tables: Rows of tables, each with the name of its `table`, and its `agent` if it belongs to one.
    """

    rows: Sequence[Row]
    tables: Sequence[Row] = ()


class Measure(ABC):
    """A quantity measured on a run, or several quantities that share their computation.

    The parameters of `__init__` are its settings. A measure with several names lists them as `quantities` and takes the
    parameter `wanted`, the requested names; one with a single name is described by the class attributes.

    Attributes:
        quantities: What can be requested, by name.
        beside: Additional values that come with it and have their own labels.
        needs: What it needs.
        name: Its name; by default the class name in snake case.
        label: Its name on an axis; by default the name in words.
        heading: Its short name in tables; by default the label.
        unit: Its unit.
        direction: Which values are better, "smaller" or "larger"; None if neither.
        undefined: Names that may have no value at some points without having failed.
        trial: Settings for a trial before the run, with the least effort.
        wanted: The requested names.
    """

    quantities: ClassVar[Mapping[str, Quantity]] = {}
    beside: ClassVar[Mapping[str, Quantity]] = {}
    name: ClassVar[str]
    label: ClassVar[str] = ""
    heading: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    direction: ClassVar[Direction | None] = None
    undefined: ClassVar[frozenset[str]] = frozenset()
    trial: ClassVar[Mapping[str, Any]] = {}
    needs: Needs = Needs()
    wanted: frozenset[str] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "quantities" not in vars(cls):
            cls.name = vars(cls).get("name") or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
            label = cls.label or cls.name.replace("_", " ")
            about = inspect.cleandoc(cls.__doc__ or "").partition("\n")[0].rstrip(".")
            quantity = Quantity(label, cls.heading or label, cls.unit, cls.direction, about)
            cls.quantities = {cls.name: quantity}
        cls.wanted = frozenset(cls.quantities)

    @classmethod
    def among(cls, names: Collection[str]) -> frozenset[str]:
        """Select the requested names of a measure that has several.

        Args:
            names: The requested names.

        Returns:
            Those that are names of this measure; all of its names if none is.
        """
        return frozenset(cls.quantities.keys() & set(names) or cls.quantities)

    @property
    def values(self) -> dict[str, Quantity]:
        """The quantities that it returns, by name."""
        return {name: known for name, known in self.quantities.items() if name in self.wanted} | dict(self.beside)

    def tried(self) -> Self:
        """Return the same measure with the least effort, for a trial.

        Returns:
            The measure with its `trial` settings.
        """
        twin = copy.copy(self)
        vars(twin).update(self.trial)
        return twin


class PointMeasure(Measure):
    """A measure of single points: the centroid, and each agent if requested."""

    @abstractmethod
    def at(self, points: "Points") -> Tensor | Sequence[float] | Sequence[Row] | Found:
        """Measure some points side by side.

        Args:
            points: The points.

        Returns:
            One value per point; or one row of values by name per point, optionally with rows of tables.
        """


class NetworkMeasure(Measure):
    """A measure of all agents of a replica together."""

    needs = Needs(centroid=True)

    @abstractmethod
    def of(self, network: "Network") -> float | Row | Found:
        """Measure a network.

        Args:
            network: The agents of a replica and their centroid.

        Returns:
            A value, or values by name, for the centroid; or rows, and rows of tables.
        """


@dataclass
class Asked:
    """A requested measure.

    Attributes:
        measure: The measure.
        names: The names under which it was requested.
    """

    measure: Measure
    names: list[str] = field(default_factory=list)


def asked_for(components: Iterable[Component]) -> list[Asked]:
    """Create the measures that an experiment asks for.

    Names of one measure with the same settings are taken together.

    Args:
        components: The experiment's `analysis`.

    Returns:
        The measures in registry order, followed by user-defined ones.

    Raises:
        ExperimentError: If something other than a measure is requested, or two values would have the same name.
    """
    groups: dict[tuple[int, int, str], list[Component]] = {}
    every: set[str] = set()
    for component in components:
        if component.name in every:
            raise ExperimentError(
                f"analysis: {component.name} is named twice; a measure has one value per run, so give it once"
            )
        every.add(component.name)
        known = list(component.kind.registry.values())
        place = known.index(component.target) if component.target in known else len(known)
        told = json.dumps(plain(component.settings), sort_keys=True)
        groups.setdefault((place, id(component.target), told), []).append(component)
    found: list[Asked] = []
    owners: dict[str, str] = dict.fromkeys((*QUANTITIES, "table", "failed"), "every run")
    for _, group in sorted(groups.items(), key=lambda item: item[0][0]):
        names = [component.name for component in group]
        measure = group[0].make(wanted=frozenset(names))
        if not isinstance(measure, PointMeasure | NetworkMeasure):
            raise ExperimentError(
                f"analysis: {names[0]} is not a measure; allowed are subclasses of PointMeasure or NetworkMeasure of"
                " basinet.analysis.measures, and their instances"
            )
        built_in = group[0].kind.registry
        for value in measure.values:
            if value in built_in and type(measure) is not built_in[value]:
                owners.setdefault(value, "a built-in measure")
            if value in owners:
                raise ExperimentError(
                    f"analysis: {names[0]} has a value called {value}, a name that {owners[value]} uses; give one of"
                    " them, or rename your own class"
                )
            owners[value] = names[0]
        found.append(Asked(measure, names))
    return found


def add(row: Row, name: str, value: float, error: float) -> None:
    """Add a value and its error to a row.

    Args:
        row: The row, changed in place.
        name: Name of the value.
        value: The value.
        error: Its error.
    """
    row[name] = value
    row[f"{name}_error"] = error


def estimated(name: str, estimates: Iterable[Estimate]) -> list[Row]:
    """Convert estimates to rows.

    Args:
        name: Name of the estimated value.
        estimates: One per point.

    Returns:
        One row per point, with the value and its standard error.
    """
    rows: list[Row] = []
    for estimate in estimates:
        rows.append({})
        add(rows[-1], name, estimate.value, estimate.error)
    return rows
