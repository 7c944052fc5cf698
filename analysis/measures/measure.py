"""What a measure is: its names, what it needs, its settings, and the method that takes it."""

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
from basinet.sim.run.quantity import METRICS, Direction, Quantity
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
"""How many random values are drawn, of which the spread is known."""

Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Needs:
    """What a measure needs besides a loss.

    Attributes:
        samples: The samples of the agents, one by one.
        whole: All samples: it is not taken under those of a single agent.
        krylov: Memory for a Krylov basis of its own.
        snapshot: The spectrum of the Hessian that is shared by all measures, see `Points.snapshot`.
        probes: Random probes of the trace in it.
        top: How many of the largest eigenvalues, or of their vectors.
        bottom: How many of the smallest.
        centroid: A centroid, whichever points are measured.
        weights: A layer with a weight matrix.
        graph: The mixing matrix: runs that differ in their graph alone have values of their own.
        mode: The mode that the analysis gives the model, which the names of what is found then say.
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
        """Whether there must be memory for a Krylov basis."""
        return self.krylov or self.snapshot

    def __or__(self, other: Self) -> Self:
        return type(self)(*map(max, astuple(self), astuple(other)))


class Found(NamedTuple):
    """What a measure has found.

    Attributes:
        rows: Values by name: of a point measure a row a point, of a network measure rows with their `agent`, or
            without one, of the centroid.
        tables: Rows of tables, each with the name of its `table`, and with its `agent` if it belongs to one.
    """

    rows: Sequence[Row]
    tables: Sequence[Row] = ()


class Measure(ABC):
    """Something that can be measured of a run, under one name or, where several share their work, under a few.

    The parameters of `__init__` are its settings. One that goes by several names lists them as `quantities`, and has
    the parameter `wanted`, the names that are asked for; of all others the attributes of the class say what it is.

    Attributes:
        quantities: What can be asked for, by name.
        beside: What is found beside it and has a label of its own.
        needs: What it needs.
        name: Its name; by default that of the class in snake case.
        label: Its name on an axis; by default the name in words.
        heading: Its short name in tables; by default the label.
        unit: Its unit.
        direction: Which values are better, "smaller" or "larger"; None where neither are.
        undefined: Names that have no value at some points, where others would have failed.
        trial: Settings with which it is tried before a run, with the least effort.
        wanted: Which of its names are asked for.
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
        """Choose what is wanted of a measure that goes by several names.

        Args:
            names: What is asked for.

        Returns:
            Those of its names that are among them; all, if the measure was named otherwise.
        """
        return frozenset(cls.quantities.keys() & set(names) or cls.quantities)

    @property
    def values(self) -> dict[str, Quantity]:
        """What it finds, by name."""
        return {name: known for name, known in self.quantities.items() if name in self.wanted} | dict(self.beside)

    def tried(self) -> Self:
        """Make the same measure with the least effort.

        Returns:
            What tells whether it can be had.
        """
        twin = copy.copy(self)
        vars(twin).update(self.trial)
        return twin


class PointMeasure(Measure):
    """A measure of single points: of the centroid, and of each agent if asked."""

    @abstractmethod
    def at(self, points: "Points") -> Tensor | Sequence[float] | Sequence[Row] | Found:
        """Measure some points side by side.

        Args:
            points: The points.

        Returns:
            A value a point; or a row of values by name each, and rows of tables.
        """


class NetworkMeasure(Measure):
    """A measure of the agents of a replica together."""

    needs = Needs(centroid=True)

    @abstractmethod
    def of(self, network: "Network") -> float | Row | Found:
        """Measure a network.

        Args:
            network: The agents of a replica and their centroid.

        Returns:
            A value or values by name, which belong to the centroid; or rows, and rows of tables.
        """


@dataclass
class Asked:
    """A measure, and what experiments call it.

    Attributes:
        measure: The measure.
        names: The names by which it is asked for.
    """

    measure: Measure
    names: list[str] = field(default_factory=list)


def asked_for(components: Iterable[Component]) -> list[Asked]:
    """Make the measures that an experiment asks for.

    Names of one measure with the same settings are taken together.

    Args:
        components: Its analysis.

    Returns:
        The measures in the order in which they are registered, and behind them those of the user's own.

    Raises:
        ExperimentError: If something else than a measure is asked for, or two values would have the same name.
    """
    groups: dict[tuple[int, int, str], list[Component]] = {}
    every: set[str] = set()
    for component in components:
        if component.name in every:
            raise ExperimentError(f"analysis: {component.name} is named twice; give it once")
        every.add(component.name)
        known = list(component.kind.registry.values())
        place = known.index(component.target) if component.target in known else len(known)
        told = json.dumps(plain(component.settings), sort_keys=True)
        groups.setdefault((place, id(component.target), told), []).append(component)
    found: list[Asked] = []
    owners: dict[str, str] = dict.fromkeys((*METRICS, "table", "failed"), "every run")
    for _, group in sorted(groups.items(), key=lambda item: item[0][0]):
        names = [component.name for component in group]
        measure = group[0].make(wanted=frozenset(names))
        if not isinstance(measure, PointMeasure | NetworkMeasure):
            raise ExperimentError(
                f"analysis: {names[0]} is no measure; allowed are classes derived from PointMeasure or NetworkMeasure"
                " of basinet.analysis.measures, and their instances"
            )
        for value in measure.values:
            if value in owners:
                raise ExperimentError(
                    f"analysis: the value of {names[0]} is called {value}, as that of {owners[value]} is; give one of"
                    " them, or a class of yours with another name"
                )
            owners[value] = names[0]
        found.append(Asked(measure, names))
    return found


def add(row: Row, name: str, value: float, error: float) -> None:
    """Add a value and its error to a row.

    Args:
        row: The row.
        name: The name of the value.
        value: The value.
        error: Its error.
    """
    row[name] = value
    row[f"{name}_error"] = error


def estimated(name: str, estimates: Iterable[Estimate]) -> list[Row]:
    """Make rows of estimates.

    Args:
        name: What is estimated.
        estimates: One a point.

    Returns:
        A row a point, with the value and its standard error.
    """
    rows: list[Row] = []
    for estimate in estimates:
        rows.append({})
        add(rows[-1], name, estimate.value, estimate.error)
    return rows
