"""Flatness and optimization error of runs, measured from their states."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Self, get_args

import torch
from torch import nn

from basinet.algorithms import draws
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.samples import Share
from basinet.analysis.measures.families import Attempts, measure_sites
from basinet.analysis.measures.network import measure_network
from basinet.analysis.measures.shapes import measure_shapes
from basinet.analysis.measures.snapshot import KRYLOV
from basinet.analysis.measures.tail_index import gradient_noise_norms, hill
from basinet.analysis.runs.effort import FULL, LEAST, Effort
from basinet.analysis.runs.sites import Bench, Sites, lanczos_steps
from basinet.analysis.runs.small_run import in_small, mixes_samples, sums_parts
from basinet.sim.agents.state import load_checkpoint, load_vector, take_rows
from basinet.sim.agents.worker import measure_some, measured_together
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.config import SAMPLED, Config, Measure
from basinet.sim.models.modules import copy_model
from basinet.sim.run.analyzed import Analyzed, analysis_settings
from basinet.sim.run.folder import RunFolder, load_runs
from basinet.sim.run.lock import alone
from basinet.sim.run.records import FINISHED, Row
from basinet.sim.runtimes.torchrun import analysts
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.sharing import Shared
from basinet.sim.tasks import Task

__all__ = ["check_analysis", "measure_again", "measure_point", "measure_replica"]

CHUNK = 4096
"""Samples at a time, which bounds the memory of the retained graph."""


def measure_point(
    model: nn.Module, task: Task, measures: Iterable[Measure], *, seed: int = 0, replica: int = 0
) -> dict[str, float]:
    """Measure one point of a task's training loss, or the gradients of its samples.

    Args:
        model: The point, in the mode and floating type in which it shall be measured.
        task: Gives the loss and the training data, in the same type and on the same device.
        measures: What to measure; of a single point.
        seed: Seed of the starting vector, of the probes, and of the samples whose tail index is estimated.
        replica: Gives replicas samples of their own.

    Returns:
        Values by name; an estimate comes with its error: a standard error for the trace and the tail index, a residual
        bound for the eigenvalue, the gradient norm at which the descent stopped for the excess risk.

    Raises:
        ValueError: If a measure cannot be had.

    Example:
        >>> from basinet.sim.models import Point
        >>> from basinet.sim.tasks import quadratic
        >>> task = quadratic(curvature=[2.0, 0.5], minimum=0.0).to("cpu", torch.float64)
        >>> found = measure_point(Point(2, start=1.0).double(), task, ["hessian_trace", "excess_risk"])
        >>> round(found["hessian_trace"], 9), round(found["excess_risk"], 9)
        (2.5, 1.25)
    """
    measures = frozenset(measures)
    objective = Objective(model, task.loss, task.train, chunk=CHUNK)
    key = torch.tensor([draws.key(seed, "analysis")], device=objective.device)
    attempts = Attempts(objective.share, measures)
    (found,), _ = measure_sites(Sites(Curvature(objective, objective.point), key, wanted=measures), attempts)
    if attempts.failures:
        name, (reason, _) = next(iter(attempts.failures.items()))
        raise ValueError(f"{name}: {reason}")
    if "tail_index" in measures:
        found |= _tail_index(model, task, seed, replica)
    return found


def _tail_index(
    model: nn.Module, task: Task, seed: int, replica: int, memory: int = 2**30, samples: int = FULL.tail_samples
) -> Row:
    tail = hill(gradient_noise_norms(model, task, samples=samples, seed=draws.key(seed, replica), memory=memory))
    # Infinite where the largest values are all the same, which no JSON holds.
    return {"tail_index": tail.value, "tail_index_error": tail.error} if math.isfinite(tail.value) else {}


_MOST_NAMED = 6

_passed: set[str] = set()
"""Analyses that have been tried in this process, and can be had."""


def check_analysis(setup: Setup) -> None:
    """Refuse an analysis that cannot be had, before the run that it belongs to.

    Each measure is taken with the least effort, of a few samples near the initial values.

    Args:
        setup: The parts of the run.

    Raises:
        ExperimentError: If there is too little memory for it, or a measure fails.
    """
    config = setup.config
    if not config.analysis:
        return
    if "own" in config.analysis_views and config.analysis_samples is not None:
        bench = Bench(setup)
        for replica in range(config.replicas):
            bench.holdings(replica)
    tried = {key: value for key, value in config.describe().items() if _matters(key)}
    identity = json.dumps({**tried, "agents": min(2, setup.num_agents)}, sort_keys=True)
    if identity in _passed:
        return
    small, state = in_small(setup)
    if KRYLOV & set(config.analysis):
        lanczos_steps(config.analysis_memory, state["rows"]["parameters"].shape[1])
    failed = {row["failed"]: row["reason"] for row in measure_replica(small, state, 0, effort=LEAST) if "failed" in row}
    if failed:
        reason = next(iter(failed.values()))
        names = [name for name in config.analysis if failed.get(name) == reason]
        shown = ", ".join(names) if len(names) <= _MOST_NAMED else f"{', '.join(names[:3])} and {len(names) - 3} more"
        left = ", ".join(name for name in config.analysis if name not in failed) or "none"
        raise ExperimentError(f"analysis: {shown} cannot be measured: {reason}; of those asked, allowed: {left}")
    bench = Bench(small)
    if mixes_samples(bench, state):
        sampled = [name for name in config.analysis if name in SAMPLED]
        if sampled or "own" in config.analysis_views or sums_parts(setup, bench):
            asked = sampled[0] if sampled else config.analysis[0]
            raise ExperimentError(
                f"analysis: {asked} is summed up from parts of the samples, and the loss of a batch is not the mean of"
                " its samples' losses; allowed are measures of all samples as one batch, which one worker holds"
            )
    _passed.add(identity)


def _matters(key: str) -> bool:
    """Return whether a key of an experiment has a say in what can be measured."""
    return key in ("task", "model", "optimizer", "seed", "runtime") or key.startswith("analysis")


def measure_replica(
    setup: Setup, state: dict[str, Any], replica: int, rank: int = 0, workers: int = 1, *, effort: Effort = FULL
) -> list[Row]:
    """Measure a replica of a run, as the run's configuration asks.

    Several workers call it alike: each sums over its share of the samples, and all know the result.

    Args:
        setup: The parts of the run.
        state: The state of the replica's rows.
        replica: Which replica it is.
        rank: This worker.
        workers: How many there are.
        effort: How much work to put in.

    Returns:
        A row a point: the centroid of the honest agents, and each of them if asked; rows of tables, each with the
        name of its `table`; and for each measure that failed a row with its name as `failed`, and the `reason`.
    """
    wanted = setup.config.analysis
    if not wanted:
        return []
    attempts = Attempts(Share(rank, workers), wanted)
    where = {"step": state["step"], "replica": replica}
    layout = attempts.prepare(wanted, lambda: _Layout.of(Bench(setup, attempts.share, effort), state, replica))
    rows = [] if layout is None else _measured(layout, state["step"], replica, attempts)
    failed = [{"failed": name, "reason": why, "traceback": at} for name, (why, at) in attempts.failures.items()]
    return [{**where, **row} for row in [*_merged(rows), *failed]]


@dataclass(frozen=True)
class _Layout:
    """What is measured of a replica, and with what; all that can fail in making it has been done."""

    bench: Bench
    center: Sites
    agents: Callable[[], Curvature]
    parts: list[Sites]

    @classmethod
    def of(cls, bench: Bench, state: dict[str, Any], replica: int) -> Self:
        center = bench.center(state, replica)
        agents = cache(lambda: Curvature(center.hessian.objective, *bench.agents(state, replica)))
        return cls(bench, center, agents, list(bench.sites(replica, center, agents)))


def _measured(layout: _Layout, step: int, replica: int, attempts: Attempts) -> list[Row]:
    bench, center, agents = layout.bench, layout.center, layout.agents
    rows: list[Row] = []

    def add(values: Row, agent: int | None) -> None:
        if values:
            rows.append({**({} if agent is None else {"agent": agent}), **values})

    while layout.parts:
        part = layout.parts.pop(0)  # its Krylov bases and graphs go with it
        found, tables = measure_sites(part, attempts)
        if part.suffix == bench.suffix:  # under all samples
            indices, _ = attempts.take(["tail_index"], partial(_tail_indices, bench, part.hessian, replica))
            for row, index in zip(found, indices, strict=False):
                row |= index
        for agent, values in zip(part.agents, found, strict=True):
            add(values, agent)
        for row in tables:
            add({name: value for name, value in row.items() if name != "agent"}, row["agent"])
    add(measure_network(bench, step, replica, center, agents, attempts), None)
    found, tables = measure_shapes(bench, replica, center, agents, attempts)
    for row in found + tables:
        add({name: value for name, value in row.items() if name != "agent"}, row.get("agent"))
    if "agents" in bench.setup.config.analysis_points:
        evaluated = attempts.prepare(attempts.wanted, lambda: _evaluated(bench, agents()))
        for agent, values in zip(bench.honest(replica), evaluated or [], strict=False):
            add(values, agent)
    return rows


def _tail_indices(bench: Bench, points: Curvature, replica: int) -> tuple[list[Row], list[Row]]:
    seed, memory, samples = bench.setup.config.seed, bench.budget // 2, bench.effort.tail_samples
    models = _models(bench, points)
    return [_tail_index(model, bench.task, seed, replica, memory, samples) for model in models], []


def _evaluated(bench: Bench, points: Curvature) -> list[Row]:
    """Evaluate each point as the run does its centroids: over all samples, each point at one of the workers."""
    mine = points.part(bench.share.part(points.num_points))
    portions = {}
    if type(bench.task).evaluate is Task.evaluate:  # a task of the user's own measures in its own way
        portions["chunk"] = measured_together(copy_model(bench.model).eval(), bench.task, bench.budget // 2)
    return bench.share.gather([bench.task.evaluate(model, **portions) for model in _models(bench, mine)])


def _models(bench: Bench, points: Curvature) -> Iterator[nn.Module]:
    """Give a model in evaluation mode the values of each point in turn."""
    model = copy_model(bench.model).eval()
    for k, point in enumerate(points.points):
        yield load_vector(model, point, {name: b[k] for name, b in points.buffers.items()})


def _merged(rows: list[Row]) -> list[Row]:
    """Put what belongs to one point into one row; rows of tables stay as they are."""
    points: dict[int | None, Row] = {}
    for row in rows:
        if "table" not in row:
            points.setdefault(row.get("agent"), {}).update(row)
    return [*points.values(), *(row for row in rows if "table" in row)]


def _again(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over those of a run."""
    asked = {**config, **settings}
    if config.get("personal") and set(settings.get("analysis_points", [])) == {"centroid", "agents"}:
        asked["analysis_points"] = ["agents"]  # there is no centroid
    return asked


@alone
def measure_again(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[float, str], None] = lambda done, text: None,
) -> None:
    """Measure finished runs once more, in all states that they kept, and append what is found to their folders.

    What has been measured already, at the same state and with the same settings, is not measured again; what has failed
    is. The ranks of `basinet.sim.runtimes.torchrun.together` share the samples.

    Args:
        folder: Folder of a run or of an experiment.
        settings: Keys of an experiment that begin with `analysis`, in place of those of the runs. Of points that are
            the centroid and the agents, runs with personal parameters have the agents alone.
        progress: Is told how much is done, from 0 to 1, and which run is being measured.

    Raises:
        ExperimentError: If a measure is not known or cannot be had, or a run is not finished.
    """
    settings = settings or {}
    for name in settings.get("analysis", []):
        if name not in get_args(Measure):
            raise ExperimentError(f"--only: there is no measure '{name}'; {nearest(name, get_args(Measure))}")
    runs = load_runs(folder)
    for run in runs:
        if run.status["state"] not in FINISHED:
            raise ExperimentError(f"{run.path}: the run is not finished, but {run.status['state']}")
        if not (settings.get("analysis") or run.config.get("analysis")):
            raise ExperimentError(f"--only: the run names no measure; give some of {', '.join(get_args(Measure))}")
    shared = Shared()
    setups = [build_setup(Config.parse(_again(run.config, settings)), shared) for run in runs]
    for setup in setups:
        check_analysis(setup)
    writers = [RunFolder(run.path) for run in runs]
    total = sum(s.config.replicas * len(w.checkpoints()) for s, w in zip(setups, writers, strict=True))
    done = 0
    for run, setup, writer in zip(runs, setups, writers, strict=True):
        wanted = analysis_settings(setup)
        with analysts(setup) as analyze:
            for file in writer.checkpoints():
                state, known = load_checkpoint(file), Analyzed(file, wanted)
                for replica in range(setup.config.replicas):
                    progress(done / total, run.name)
                    missing = known.missing(setup.config, replica, retry=True)
                    if missing and replica not in run.diverged:
                        rows = slice(replica * setup.num_agents, (replica + 1) * setup.num_agents)
                        measure = partial(measure_some, measure_replica, tuple(missing))
                        found = analyze(measure, take_rows(state, rows), replica)
                        known.record(writer, found, setup.config, missing, replica)
                    done += 1
    progress(1.0, "")
