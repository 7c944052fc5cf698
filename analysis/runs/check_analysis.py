"""Check of the analysis before a run: whether every requested measure is available."""

import json
import logging
from collections.abc import Callable

import torch

from basinet.analysis.measures.measure import Needs, asked_for
from basinet.analysis.measures.measured import LEAST
from basinet.analysis.runs.context import AnalysisContext, lanczos_steps
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.analysis.runs.small_run import in_small, mixes_samples, sums_parts
from basinet.sim.data.nests import map_nest
from basinet.sim.data.rows import take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models.modules import copy_model, move_model
from basinet.sim.run.analyzed import samples_used
from basinet.sim.setup.setup import Setup

__all__ = ["check_analysis"]

_log = logging.getLogger(__name__)

_MOST_NAMED = 6

_passed: set[str] = set()
"""Analyses that have passed the check in this process."""


def check_analysis(setup: Setup) -> None:
    """Raise before a run if its analysis is not available.

    Each measure is tried with the least effort, on a few samples near the initial values.

    Args:
        setup: The parts of the run.

    Raises:
        ExperimentError: If task or model lack what a measure needs, memory is too small, or a measure fails.
    """
    config = setup.config
    if not config.analysis:
        return
    if "own" in config.analysis_views and samples_used(setup) is not None and setup.holdings:
        context = AnalysisContext(setup)
        for replica in range(config.replicas):
            context.holdings(replica)
    tried = {key: value for key, value in config.describe().items() if _matters(key)}
    own = [component.describe() for component in config.analysis if component.is_own]
    identity = json.dumps({**tried, "own": own, "agents": min(2, setup.num_agents)}, sort_keys=True)
    if identity in _passed:
        return
    measures = asked_for(config.analysis)
    for each in measures:
        if taken := sorted(each.measure.values.keys() & setup.quantities):
            raise ExperimentError(
                f"analysis: {each.names[0]} has a value called {taken[0]}, a name that a metric uses; rename your own"
                " class"
            )

    def needing(what: Callable[[Needs], bool]) -> list[str]:
        names = {name for asked in measures if what(asked.measure.needs) for name in asked.names}
        return [component.name for component in config.analysis if component.name in names]

    _check_needs(setup, needing)
    small, state = in_small(setup)
    if needing(lambda needs: needs.basis):
        lanczos_steps(config.analysis_memory, state["rows"]["parameters"].shape[1])
    failed = {row["failed"]: row["reason"] for row in measure_replica(small, state, 0, effort=LEAST) if "failed" in row}
    every = [component.name for component in config.analysis]
    if failed:
        reason = next(iter(failed.values()))
        names = [name for name in every if failed.get(name) == reason]
        shown = ", ".join(names) if len(names) <= _MOST_NAMED else f"{', '.join(names[:3])} and {len(names) - 3} more"
        left = ", ".join(name for name in every if name not in failed) or "none"
        raise ExperimentError(f"analysis: {shown} cannot be measured: {reason}; of those asked, allowed: {left}")
    context = AnalysisContext(small)
    if context.objective(1).eps > torch.finfo(context.dtype).eps:
        _log.warning(
            "analysis_dtype: model and loss compute in lower precision than %s at some point, as by .float(), so that"
            " measurements have its rounding errors",
            config.analysis_dtype,
        )
    if mixes_samples(context, state):
        sampled = needing(lambda needs: needs.samples)
        if sampled or "own" in config.analysis_views or sums_parts(setup, context):
            raise ExperimentError(
                f"analysis: {(sampled or every)[0]} is summed up from parts of the samples, and the loss of a batch is"
                " not the mean of its samples' losses; allowed are measures of all samples as one batch, which one"
                " worker holds"
            )
    _passed.add(identity)


def _matters(key: str) -> bool:
    """Return whether a key of an experiment affects what can be measured."""
    named = ("task", "model", "optimizer", "personal", "seed", "runtime")
    return key in named or key.startswith(("analysis", "metrics"))


def _check_needs(setup: Setup, needing: Callable[[Callable[[Needs], bool]], list[str]]) -> None:
    """Raise if task, model or mode lack what a measure needs."""
    config = setup.config
    model = move_model(setup.template(), "cpu", setup.dtype)
    if config.personal and "centroid" in config.analysis_points:
        raise ExperimentError(
            "analysis_points: got centroid, but agents with personal parameters have none; allowed are [agents],"
            " or no analysis"
        )
    if config.personal and (centred := needing(lambda needs: needs.centroid)):
        raise ExperimentError(
            f"analysis: {centred[0]} is measured about the centroid, and agents with personal parameters have none"
        )
    sampled, own = needing(lambda needs: needs.samples), "own" in config.analysis_views
    if setup.task.draw is not None and (sampled or own):
        asked = f"analysis: {sampled[0]}" if sampled else "analysis_views: own"
        raise ExperimentError(f"{asked} needs the samples of the agents, and the task generates fresh ones")
    if setup.task.mean_over == "batch" and (sampled or own):
        asked = f"analysis: {sampled[0]}" if sampled else "analysis_views: own"
        raise ExperimentError(
            f"{asked} needs the losses of single samples, and the task has a loss of whole batches (mean_over); allowed"
            " are measures of all samples, whose loss is the mean over fixed batches"
        )
    if config.analysis_products == "differences" and config.analysis_dtype != "float64":
        raise ExperimentError(
            f"analysis_products: differences of gradients need analysis_dtype: float64, got {config.analysis_dtype}"
        )
    weighted = needing(lambda needs: needs.weights)
    if weighted and all(p.ndim < 2 for p in model.parameters() if p.requires_grad):
        raise ExperimentError(f"analysis: {weighted[0]} needs a layer with a weight matrix; the model has none")
    if config.analysis_mode == "training" and (sampled or own):
        asked = sampled[0] if sampled else "the view own"
        raise ExperimentError(f"analysis_mode: in training mode all samples are one batch; leave out {asked}")
    model.train(config.analysis_mode == "training")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        # A copy, whose running statistics may change.
        setup.task.objective(copy_model(model), map_nest(torch.clone, take(setup.task.train, slice(0, 2))))
        if not torch.equal(before, torch.get_rng_state()):
            raise ExperimentError(
                f"analysis_mode: in {config.analysis_mode} mode the loss draws random numbers (as dropout does), so it"
                " has no Hessian; allowed are a mode in which it does not, or no analysis"
            )
