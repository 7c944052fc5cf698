"""The question that words of the command line ask for advice on graphs."""

import argparse
from dataclasses import replace
from typing import Any

import networkx as nx

from basinet.analysis.advice.question import Question
from basinet.analysis.theory.rounds_to_accuracy import Problem
from basinet.launch.previews.component_words import component_of, network_of
from basinet.launch.results import load_one
from basinet.sim.clock.conditions import network_on
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.mistakes import count_of
from basinet.topologies.networks import size

__all__ = ["problem_of", "question_of"]

_TYPICAL = 10_000
"""Most parameters of the model on which a strategy is rehearsed; the sizes of its messages are scaled."""
_OF_THE_RUN = ("topology", "network", "compute", "faults", "epochs", "samples", "bytes", "evaluate_every", "loggers")
"""Keys of a run that advice replaces, or does without."""


def problem_of(options: argparse.Namespace) -> tuple[Problem, str]:
    """Find what is to be learned: noise and heterogeneity as they are given, measured in a run, or usual.

    Args:
        options: Those of `basinet advise`.

    Returns:
        The problem, and what was measured, in words; empty if nothing was asked for.
    """
    usual, said = Problem(accuracy=options.accuracy), ""
    given = {"noise": options.noise, "heterogeneity": options.heterogeneity}
    wanted = [name for name, value in given.items() if value is None]
    if options.run is not None and wanted and options.by == "accuracy":
        from basinet.analysis.advice.measured_problem import calibrated  # slow to import

        try:
            found = calibrated(load_one(options.run)[1].path)
            usual = Problem(found.noise, found.heterogeneity, options.accuracy)
            how = f"of {options.run}, {count_of(found.replicas, 'replica')}, measured at its end"
        except ExperimentError as error:
            how = f"as usual, not that of {options.run}: {error}"
        said = f"{' and '.join(f'{name} {getattr(usual, name):.3g}' for name in wanted)} {how}"
    return replace(usual, **{name: value for name, value in given.items() if value is not None}), said


def question_of(options: argparse.Namespace) -> Question:
    """Make the question from the options of the command, about the usual problem.

    Args:
        options: Those of `basinet advise`.

    Returns:
        The question.

    Raises:
        ExperimentError: An option is missing or wrong.
    """
    recorded = {} if options.run is None else load_one(options.run)[1].config
    try:
        held = None if options.model_size is None else size(options.model_size)
    except ValueError as error:
        raise ExperimentError(f"--model-size: {error}") from None
    agents = options.agents or recorded.get("topology", {}).get("agents")
    network = recorded.get("network") if options.network is None else network_of(options.network)
    needed = {"--agents": agents, "--network": network, "--model-size": held if held is not None else recorded or None}
    if missing := next((option for option, given in needed.items() if given is None), None):
        raise ExperimentError(f"{missing}: a value is needed, or a run that has one (--run)")
    if agents < 2:
        raise ExperimentError(f"--agents: got {agents}; there must be at least 2 for graphs to differ")
    if held is not None and held < 1:
        raise ExperimentError(f"--model-size: got {options.model_size}; a model has at least one byte")
    run = {key: value for key, value in recorded.items() if key not in _OF_THE_RUN}
    if not recorded:
        dimension = min(_TYPICAL, max(1, (held or 0) // 4))
        run = {"task": {"name": "quadratic", "curvature": 1.0, "dimension": dimension}, "strategy": "diffusion"}
    if options.strategy is not None:
        run["strategy"] = component_of(options.strategy, "strategy")
    run |= {"steps": 1, "replicas": 1, "analysis": [], "start": None}
    run["runtime"] = {key: value for key, value in run.get("runtime", {}).items() if key == "dtype"}
    timed = {
        "topology": {"name": "complete", "agents": agents},
        "network": _complete(network),
        "compute": recorded.get("compute") if options.compute is None else component_of(options.compute, "compute"),
    }
    config = Config.parse(run | timed)
    links = network_on(config, nx.empty_graph(agents))
    assert config.network is not None and links is not None
    if config.compute is not None and (config.compute.takes("flops") or config.compute.takes("seconds")):
        raise ExperimentError(
            f"--compute: {config.compute.name} follows from a model, which advice does not have; give another law, such"
            " as {name: lognormal, mean: 20 ms}"
        )
    return Question(
        run,
        links,
        None if config.compute is None else config.compute.make(),
        held,
        most_neighbours=options.max_degree,
        disagreement=options.agreement,
        by=options.by,
        overlap=config.network.overlap,
        seed=config.seed,
    )


def _complete(network: Any) -> dict[str, Any]:
    """Let a network link all pairs."""
    described: dict[str, Any] = {"name": network} if isinstance(network, str) else dict(network)
    if described.get("name") == "edges":
        raise ExperimentError("network: edges describes the links of one graph, but advice is about a choice of graphs")
    if described.get("all_reduce") not in (None, "ring", {"name": "ring"}):
        raise ExperimentError("network.all_reduce: it cannot be set for advice, which looks for the best one itself")
    return {**described, "complete": True}
