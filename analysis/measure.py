"""Flatness and optimization error of finished runs, measured from their checkpoints."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.analysis.hessian import HessianOperator
from basinet.analysis.lanczos import lanczos
from basinet.analysis.risk import excess_risk
from basinet.analysis.tail_index import gradient_noise_norms, hill
from basinet.analysis.trace import deflated_trace
from basinet.sim.component import ExperimentError, nearest
from basinet.sim.config import Config, Measure
from basinet.sim.folder import FINISHED, Row, RunFolder, load_runs
from basinet.sim.setup import Setup
from basinet.sim.state import load_checkpoint, load_vector
from basinet.sim.tasks import Task
from basinet.sim.worker import pick_device

__all__ = ["measure_again", "measure_point", "measure_replicas"]

_DEFLATION_STEPS = 30
"""Length of the Krylov run that the trace is deflated with: ten further products then give about 2 %."""

CHUNK = 4096
"""Samples at a time, which bounds the memory of the retained graph."""


def measure_point(
    model: nn.Module, task: Task, measures: Iterable[Measure], *, seed: int = 0, replica: int = 0
) -> dict[str, float]:
    """Measure one point of a task's training loss, or the gradients of its samples.

    Args:
        model: The point, in the mode and floating type in which it shall be measured.
        task: Gives the loss and the training data, in the same type and on the same device.
        measures: What to measure.
        seed: Seed of the starting vector, of the probes, and of the samples whose tail index is estimated.
        replica: Gives replicas samples of their own.

    Returns:
        Values by name; an estimate comes with its error: a standard error for the trace and the tail index, a residual
        bound for the eigenvalue, the gradient norm at which the descent stopped for the excess risk.

    Example:
        >>> from basinet.sim.models import Point
        >>> from basinet.sim.tasks import quadratic
        >>> task = quadratic(curvature=[2.0, 0.5], minimum=0.0).to("cpu", torch.float64)
        >>> found = measure_point(Point(2, start=1.0).double(), task, ["hessian_trace", "excess_risk"])
        >>> round(found["hessian_trace"], 9), round(found["excess_risk"], 9)
        (2.5, 1.25)
    """
    measures = set(measures)
    found: dict[str, float] = {}
    if measures & {"hessian_trace", "hessian_top_eigenvalue"}:
        operator = HessianOperator(model, task.loss, task.train, chunk=CHUNK)
        steps = _DEFLATION_STEPS if "hessian_trace" in measures else 1
        ritz = lanczos(operator, min_steps=steps, seed=seed)
        if "hessian_top_eigenvalue" in measures:
            found["hessian_top_eigenvalue"] = float(ritz.values[0])
            found["hessian_top_eigenvalue_error"] = float(ritz.residuals[0])
        if "hessian_trace" in measures:
            trace = deflated_trace(operator, ritz, seed=seed)
            found["hessian_trace"] = trace.value
            found["hessian_trace_error"] = trace.error
    if "excess_risk" in measures:
        risk = excess_risk(model, task.loss, task.train, chunk=CHUNK)
        found["excess_risk"] = risk.value
        found["excess_risk_gradient_norm"] = risk.gradient_norm
    if "tail_index" in measures:
        tail = hill(gradient_noise_norms(model, task, seed=draws.key(seed, replica)))
        found["tail_index"] = tail.value
        found["tail_index_error"] = tail.error
    return found


def measure_replicas(setup: Setup, state: dict[str, Any], replicas: Iterable[int]) -> list[Row]:
    """Measure some replicas of a run at its checkpoint, as the run's configuration asks.

    Args:
        setup: The parts of the run.
        state: The checkpoint: the state of all rows.
        replicas: Which replicas.

    Returns:
        A row a point: the centroid of the honest agents, and each of them if asked.
    """
    config = setup.config
    dtype = getattr(torch, config.analysis_dtype)
    device = pick_device(config.runtime)
    task = setup.task.to(device, dtype)
    model = setup.template().to(device, dtype).eval()
    rows = []
    for replica in replicas:
        if replica in state["diverged"] or not config.analysis:
            continue
        for agent, parameters, buffers in _points(setup, state, replica):
            load_vector(model, parameters.to(device, dtype), buffers)
            where = {"step": state["step"], "replica": replica, **({} if agent is None else {"agent": agent})}
            quality = {} if agent is None else task.evaluate(model)
            found = measure_point(model, task, config.analysis, seed=config.seed, replica=replica)
            rows.append({**where, **quality, **found})
    return rows


def _points(
    setup: Setup, state: dict[str, Any], replica: int
) -> Iterable[tuple[int | None, Tensor, dict[str, Tensor]]]:
    """Yield the points of a replica to be measured: the agent (None for the centroid), parameters, buffers.

    They are those of the honest agents.
    """
    agents = slice(replica * setup.num_agents, (replica + 1) * setup.num_agents)
    x = state["rows"]["parameters"][agents]
    buffers = {name: b[agents] for name, b in state["rows"]["buffers"].items()}
    honest = (~setup.attackers[replica]).nonzero()[0].tolist()
    pi = torch.from_numpy(setup.honest_weights[replica, honest])

    def mean(rows: Tensor) -> Tensor:
        # As `Mixer.centroid`: agents that agree have exactly their common value as the mean.
        values = rows[honest].to(pi.dtype)
        found = values[0] + ((values - values[0]) * pi.view(-1, *(1 for _ in rows.shape[1:]))).sum(0)
        return found if rows.is_floating_point() else found.round().to(rows.dtype)

    if "centroid" in setup.config.analysis_points:
        yield None, mean(x), {name: mean(b) for name, b in buffers.items()}
    if "agents" in setup.config.analysis_points:
        for k in honest:
            yield k, x[k], {name: b[k] for name, b in buffers.items()}


def measure_again(folder: Path, *, only: list[str] | None = None, agents: bool = False) -> None:
    """Measure finished runs once more and append what is found to their folders.

    Args:
        folder: Folder of a run or of an experiment.
        only: Names of the measures; those of the run's configuration by default.
        agents: Whether to measure each agent, too.

    Raises:
        ExperimentError: A measure is not known, or a run is not finished.
    """
    for name in only or []:
        if name not in get_args(Measure):
            raise ExperimentError(f"--only: there is no measure '{name}'; {nearest(name, get_args(Measure))}")
    for run in load_runs(folder):
        if run.status["state"] not in FINISHED:
            raise ExperimentError(f"{run.path}: the run is not finished, but {run.status['state']}")
        changes: dict[str, Any] = {"analysis": only} if only else {}
        if agents:
            changes["analysis_points"] = ["centroid", "agents"]
        if not (only or run.config.get("analysis")):
            raise ExperimentError(f"--only: the run names no measure; give some of {', '.join(get_args(Measure))}")
        writer = RunFolder(run.path)
        setup = Setup.build(Config.parse(run.config | changes))
        state = load_checkpoint(writer.checkpoint)
        writer.append(measure_replicas(setup, state, range(setup.config.replicas)))
