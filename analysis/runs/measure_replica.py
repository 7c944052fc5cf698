"""Measurement of flatness and optimization error from the states of runs."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective, Products
from basinet.analysis.curvature.samples import Share
from basinet.analysis.measures.measure import Asked, Found, Measure, Needs, NetworkMeasure, PointMeasure, asked_for
from basinet.analysis.measures.measured import FULL, Effort, Network, Points, models_at
from basinet.analysis.runs.attempts import Attempts
from basinet.analysis.runs.context import AnalysisContext
from basinet.analysis.statistics.quantities import registered
from basinet.sim.agents.worker import measured_together
from basinet.sim.data.rows import in_memory
from basinet.sim.experiment.config import KINDS
from basinet.sim.models.modules import copy_model
from basinet.sim.run.quantity import QUANTITIES
from basinet.sim.run.records import Row
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Task

__all__ = ["measure_point", "measure_replica"]

M = TypeVar("M", bound=Measure)

CHUNK = 4096
"""Number of samples at a time, which bounds the memory of the retained graph."""


def measure_point(
    model: nn.Module,
    task: Task,
    measures: Iterable[Any],
    *,
    seed: int = 0,
    replica: int = 0,
    products: Products = "exact",
) -> dict[str, float]:
    """Measure one point of a task's training loss, or its per-sample gradients.

    Args:
        model: The point, in the mode and floating type of the measurement.
        task: Provides the loss and the training data, in the same dtype and on the same device.
        measures: What to measure, as in an experiment; network measures are ignored.
        seed: Seed of all random draws.
        replica: Index of the replica, for separate draws.
        products: How products with curvature matrices are computed; see `Objective`.

    Returns:
        Values by name; estimates come with their errors: a standard error for the trace and the tail index, a residual
        bound for the eigenvalue, the gradient norm at which the descent stopped for the excess risk.

    Raises:
        ValueError: If a measure is not available.

    Example:
        >>> from basinet.sim.models import Point
        >>> from basinet.sim.tasks import quadratic
        >>> task = quadratic(curvature=[2.0, 0.5], minimum=0.0).to("cpu", torch.float64)
        >>> found = measure_point(Point(2, start=1.0).double(), task, ["hessian_trace", "excess_risk"])
        >>> round(found["hessian_trace"], 9), round(found["excess_risk"], 9)
        (2.5, 1.25)
    """
    asked = asked_for(KINDS["analysis"].parse(given) for given in measures)
    task = dataclasses.replace(task, train=in_memory(task.train))
    objective = Objective(model, task.objective, task.train, chunk=CHUNK, products=products)
    points = Points(
        hessian=Curvature(objective, objective.point),
        keys=torch.tensor([draws.key(seed, "analysis")], device=objective.device),
        task=task,
        model=model,
        seed=draws.key(seed, replica),
        needs=_needs(asked),
    )
    attempts = Attempts(objective.share)
    (found,), _ = _measure_points(points, asked, attempts)
    if attempts.failures:
        name, (reason, _) = next(iter(attempts.failures.items()))
        raise ValueError(f"{name}: {reason}")
    return found


def _needs(asked: Iterable[Asked]) -> Needs:
    return reduce(or_, (each.measure.needs for each in asked), Needs(mode=False))


def measure_replica(
    setup: Setup, state: dict[str, Any], replica: int, rank: int = 0, workers: int = 1, *, effort: Effort = FULL
) -> list[Row]:
    """Measure a replica of a run, as its configuration asks.

    All workers call it together: each sums over its share of the samples, and all get the result.

    Args:
        setup: The parts of the run.
        state: The state of the replica's rows.
        replica: Index of the replica.
        rank: Index of this worker.
        workers: Number of workers.
        effort: How much work to put in.

    Returns:
        One row per point: the centroid of the honest agents, and each of them if requested; rows of tables, each with
        the name of its `table`; for each failed measure a row with its name as `failed` and the `reason`; and for each
        that was not finished when the work was to stop, a row with its name as `unfinished`.
    """
    components = setup.config.analysis
    if not components:
        return []
    asked, names = asked_for(components), [component.name for component in components]
    if effort.trial:
        asked = [Asked(each.measure.tried(), each.names) for each in asked]
    attempts = Attempts(Share(rank, workers))

    def lay_out() -> _Layout:
        return _Layout.of(AnalysisContext(setup, attempts.share, _needs(asked), effort), state, replica)

    layout = attempts.take(names, lay_out)
    rows = [] if layout is None else _measured(layout, asked, names, attempts)
    failed = [{"failed": name, "reason": why, "traceback": at} for name, (why, at) in attempts.failures.items()]
    unfinished = [{"unfinished": name} for name in sorted(attempts.unfinished)]
    where = {"step": state["step"], "replica": replica}
    return [{**where, **row} for row in [*_merged(rows), *failed, *unfinished]]


@dataclass(frozen=True)
class _Layout:
    """The points of a replica and their context; construction may fail, use of it does not."""

    context: AnalysisContext
    network: Network
    parts: list[Points]

    @classmethod
    def of(cls, context: AnalysisContext, state: dict[str, Any], replica: int) -> Self:
        network = context.network(state, replica)
        return cls(context, network, list(context.points(network, replica)))


def _measured(layout: _Layout, asked: list[Asked], names: list[str], attempts: Attempts) -> list[Row]:
    context, network = layout.context, layout.network
    of_network = [each for each in asked if isinstance(each.measure, NetworkMeasure)]
    rows: list[Row] = []
    while layout.parts:
        part = layout.parts.pop(0)  # popped, to free its Krylov bases and graphs
        found, tables = _measure_points(part, asked, attempts, of_network if part is network.center else [])
        rows += [{"agent": agent, **values} for agent, values in zip(part.agents, found, strict=True)]
        rows += tables
    found, tables = _measure_network(network, asked, attempts)
    rows += [*found, *tables]
    if "agents" in context.setup.config.analysis_points:
        evaluated = attempts.take(names, lambda: _evaluated(context, network.agents())) or []
        rows += [{"agent": agent, **values} for agent, values in zip(network.names, evaluated, strict=False)]
    return rows


def _measure_points(
    points: Points, asked: Iterable[Asked], attempts: Attempts, sharing: Iterable[Asked] = ()
) -> tuple[list[Row], list[Row]]:
    """Measure some points: values by name at each, and rows of tables; `sharing` measures use their snapshot, too."""
    found: list[Row] = [{} for _ in points.agents]
    tables: list[Row] = []
    chosen = [(each.measure, each.names) for each in asked if isinstance(each.measure, PointMeasure)]
    for measure, names in _measurable(points, chosen, attempts, sharing):
        if measure.needs.whole and not points.whole:
            continue
        rows, more = attempts.take(names, partial(_at, measure, points)) or ([], ())
        suffix = points.suffix if measure.needs.mode or not points.whole else ""
        tables += _suffixed(more, suffix)
        for row, values in zip(found, rows, strict=False):
            row |= {_named(name, suffix): value for name, value in values.items()}
    return found, tables


def _measure_network(network: Network, asked: Iterable[Asked], attempts: Attempts) -> tuple[list[Row], list[Row]]:
    """Measure a network: values by name for the centroid or for an agent, and rows of tables."""
    found: list[Row] = []
    tables: list[Row] = []
    known = [each for each in asked if not attempts.failures.keys() & set(each.names)]
    chosen = [(each.measure, each.names) for each in known if isinstance(each.measure, NetworkMeasure)]
    for measure, names in _measurable(network.center, chosen, attempts):
        rows, more = attempts.take(names, partial(_of, measure, network)) or ([], ())
        suffix = network.center.suffix if measure.needs.mode else ""
        tables += _suffixed(more, suffix)
        found += [{name if name == "agent" else _named(name, suffix): row[name] for name in row} for row in rows]
    return found, tables


def _measurable(
    points: Points, asked: Sequence[tuple[M, list[str]]], attempts: Attempts, sharing: Iterable[Asked] = ()
) -> Iterator[tuple[M, list[str]]]:
    """Yield the measures that remain after taking their shared snapshot; if it fails, those that need it fail."""
    every = [Asked(*each) for each in asked] + [*sharing]
    needing = [name for each in every if each.measure.needs.snapshot for name in each.names]
    known = not needing or attempts.take(needing, lambda: points.snapshot) is not None
    return ((measure, names) for measure, names in asked if known or not measure.needs.snapshot)


def _at(measure: PointMeasure, points: Points) -> Found:
    found = measure.at(points)
    given, tables = found if isinstance(found, Found) else (found, ())
    values = given.tolist() if isinstance(given, Tensor) else given
    if len(values) != len(points.agents):
        raise ValueError(f"it has {len(values)} values for {len(points.agents)} points")
    rows = [_row(measure, value) for value in values]
    places = ["the centroid" if agent is None else f"agent {agent}" for agent in points.agents]
    return Found([_finite(measure, row, place) for row, place in zip(rows, places, strict=True)], tables)


def _of(measure: NetworkMeasure, network: Network) -> Found:
    found = measure.of(network)
    given, tables = found if isinstance(found, Found) else ([found], ())
    return Found([_finite(measure, _row(measure, row), "the centroid") for row in given], tables)


def _row(measure: PointMeasure | NetworkMeasure, value: Any) -> Row:
    """Convert values to plain numbers by name; a single value is the only one of its measure."""
    named = value if isinstance(value, Mapping) else dict.fromkeys(measure.wanted, value)
    others = {*QUANTITIES, *registered()} - {*measure.quantities, *measure.beside, "agent"}
    if taken := sorted(named.keys() & others):
        raise ValueError(f"it returns a value called {taken[0]}, which is the name of another number")
    return {name: number if isinstance(number, int | float) else float(number) for name, number in named.items()}


def _finite(measure: PointMeasure | NetworkMeasure, row: Row, place: str) -> Row:
    """Leave out non-finite values; raise ValueError if a requested one is not finite."""
    for name in sorted(measure.wanted & row.keys() - measure.undefined):
        if not math.isfinite(row[name]):
            raise ValueError(f"at {place} it is {row[name]}")
    return {name: value for name, value in row.items() if math.isfinite(value)}


def _suffixed(tables: Iterable[Row], suffix: str) -> list[Row]:
    return [{**row, "table": f"{row['table']}{suffix}"} for row in tables]


def _named(name: str, suffix: str) -> str:
    """Insert the view's suffix after the name of a measure, before endings such as `_error`."""
    for tail in ("_error", "_gradient_norm"):
        if name.endswith(tail):
            return name.removesuffix(tail) + suffix + tail
    return name + suffix


def _evaluated(context: AnalysisContext, points: Curvature) -> list[Row]:
    """Evaluate each point as the run evaluates centroids: over all samples, each point on one of the workers."""
    mine = points.part(context.share.part(points.num_points))
    model, portions = context.evaluated, {}
    if not context.task.overrides("evaluate"):  # a custom `evaluate` chooses its own chunks
        portions["chunk"] = measured_together(copy_model(model), context.task, context.budget // 2)
    found = (context.task.evaluate(at_point, **portions) for at_point in models_at(model, mine))
    rows = [{name: value for name, value in row.items() if math.isfinite(value)} for row in found]
    return context.share.gather(rows)


def _merged(rows: list[Row]) -> list[Row]:
    """Merge the rows of each point; rows of tables stay as they are."""
    points: dict[int | None, Row] = {}
    tables: list[Row] = []
    for row in rows:
        agent = row.get("agent")
        place = {} if agent is None else {"agent": agent}
        values = {name: value for name, value in row.items() if name != "agent"}
        if "table" in row:
            tables.append(place | values)
        elif values:
            points.setdefault(agent, place).update(values)
    return [*points.values(), *tables]
