"""Trainings on several topologies, each timed on several networks and under several laws of compute time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from basinet.analysis.studies.flatness_tradeoff.trainings import Array, by_case, carry_out
from basinet.analysis.studies.study import Progress
from basinet.sim.clock.clock import clock_of
from basinet.sim.clock.conditions import under
from basinet.sim.clock.rehearsed_flow import data_flow
from basinet.sim.experiment.config import Config
from basinet.sim.run.folder import Run
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup

__all__ = [
    "AGENTS",
    "ALL_REDUCE",
    "LAWS",
    "NETWORKS",
    "TASKS",
    "Timed",
    "Training",
    "setup_of",
    "trained",
]

AGENTS = 16
ALL_REDUCE = "all-reduce"

TASKS: dict[str, dict[str, Any]] = {
    "perceptron": {"model": {"name": "mlp", "hidden": [24]}, "optimizer": {"name": "sgd", "lr": 0.3}},
    "convolutions": {"model": {"name": "cnn", "channels": [8, 16]}, "optimizer": {"name": "sgd", "lr": 0.3}},
}
"""Models of the digits, and how they are trained."""

_SUMS: dict[str, Any] = {"complete": True, "all_reduce": "best"}
NETWORKS: dict[str, dict[str, Any]] = {
    "data centre": {
        "name": "uniform",
        "latency": "50 us",
        "bandwidth": "10 Gb/s",
        "access": {"up": "10 Gb/s", "down": "10 Gb/s"},
        **_SUMS,
    },
    "two machines": {
        "name": "hierarchy",
        "nodes": 2,
        "agents_per_node": 8,
        "inside": {"bandwidth": "10 GB/s", "latency": "5 us"},
        "between": {"bandwidth": "100 Mb/s", "latency": "100 us"},
        **_SUMS,
    },
    "Europe": {
        "name": "published",
        "table": "geant",
        "hosts": ["PT", "ES", "FR", "UK", "NL", "DE", "DK", "SE", "FI", "PL", "CZ", "AT", "HU", "GR", "IT", "CH"],
        **_SUMS,
    },
}
"""Networks; the agents of the last one go once around Europe."""

MEAN = "1 ms"
LAWS: dict[str, dict[str, Any]] = {
    "constant": {"name": "constant", "mean": MEAN},
    "exponential": {"name": "exponential", "mean": MEAN, "floor": 0.5},
    "stragglers": {"name": "markov", "mean": MEAN, "slowdown": 10.0, "share": 0.05, "spell": 20.0},
}
"""Laws of compute time, of the same mean."""

_CASES: dict[str, dict[str, Any]] = {
    "ring": {},
    "torus": {"topology.name": "torus"},
    "exponential": {"topology.name": "exponential"},
    "one-peer exponential": {"topology.name": "one_peer_exponential"},
    "complete": {"topology.name": "complete"},
    ALL_REDUCE: {"strategy": "centralized"},
}
"""Diffusion on graphs, and centralised training."""


@dataclass(frozen=True, eq=False)
class Timed:
    """A training with its times under some conditions.

    Attributes:
        topology: Its graph, or `ALL_REDUCE`.
        seconds: When all agents of each replica were at each evaluation [S, R].
        accuracy: Mean test accuracy of the agents' own models [S, R].
    """

    topology: str
    seconds: Array
    accuracy: Array

    def at(self, second: float) -> Array:
        """Return the accuracy at some time [R], between evaluations by interpolation; after the end, the last one."""
        columns = zip(self.seconds.T, self.accuracy.T, strict=True)
        return np.array([np.interp(second, times, values) for times, values in columns])

    def reached(self, target: float) -> Array:
        """Return when the accuracy first is at a target [R], infinite where it never is."""
        found = np.full(self.seconds.shape[1], np.inf)
        for replica, (times, values) in enumerate(zip(self.seconds.T, self.accuracy.T, strict=True)):
            hits = np.flatnonzero(values >= target)
            if hits.size:
                around = slice(max(0, hits[0] - 1), hits[0] + 1)
                found[replica] = np.interp(target, values[around], times[around])
        return found


@dataclass(frozen=True, eq=False)
class Training:
    """A finished training.

    Attributes:
        task: Its model.
        topology: Its graph, or `ALL_REDUCE`.
        run: The run.
    """

    task: str
    topology: str
    run: Run

    @cached_property
    def setup(self) -> Setup:
        """The parts of the run, with what its steps wait for."""
        return setup_of(self.run.config)

    @cached_property
    def steps(self) -> list[int]:
        """The steps of the evaluations."""
        return sorted({int(row["step"]) for row in self.run.metrics})

    @cached_property
    def accuracy(self) -> Array:
        """Mean test accuracy of the agents' own models [S, R]; NaN for replicas that have diverged."""
        found: dict[tuple[int, int], list[float]] = {}
        for row in self.run.metrics:
            if "agent" in row:
                found.setdefault((row["step"], row["replica"]), []).append(row["test_accuracy"])
        replicas = range(self.run.config["replicas"])
        return np.array([[fmean(found.get((step, r), [np.nan])) for r in replicas] for step in self.steps])

    def timed(self, conditions: Mapping[str, Any]) -> Timed:
        """Return the training with its times.

        Args:
            conditions: `network` and `compute`.

        Returns:
            Its accuracy over time.
        """
        clock = clock_of(under(self.setup, conditions))
        seconds = np.array([clock.advance(step).astype(np.float64) / 1e9 for step in self.steps])
        return Timed(self.topology, seconds, self.accuracy)


def setup_of(config: Mapping[str, Any]) -> Setup:
    """Build the parts of a run, with what its steps wait for.

    Args:
        config: The run.

    Returns:
        The parts.
    """
    setup = build_setup(Config.parse({**config, "analysis": []}), trial=False)
    return replace(setup, flow=data_flow(setup))


def trained(progress: Progress, folder: Path, *, steps: int, replicas: int) -> Iterator[Training]:
    """Carry out the trainings.

    Args:
        progress: Called with the fraction done and a description.
        folder: The folder of the study.
        steps: Number of steps.
        replicas: Number of replicas.

    Yields:
        Those of one task after the other.
    """
    for place, (task, keys) in enumerate(TASKS.items()):

        def part(done: float, told: str, place: int = place, task: str = task) -> None:
            progress((place + done) / len(TASKS), f"{task}: {told}")

        description = {
            "task": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.1}},
            "topology": {"name": "ring", "agents": AGENTS},
            "strategy": "diffusion",
            "batch_size": 16,
            "steps": steps,
            "evaluate_every": max(1, steps // 20),
            "replicas": replicas,
            "analysis": [],
            "trajectory": {"metrics": True},
            "cases": _CASES,
            **keys,
        }
        for topology, run in by_case(carry_out(folder, task, description, part)).items():
            yield Training(task, topology, run)
