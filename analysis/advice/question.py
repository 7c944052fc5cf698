"""What advice is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from basinet.analysis.theory.rounds_to_accuracy import Problem
from basinet.sim.clock.laws import ComputeLaw
from basinet.topologies.networks import Network

__all__ = ["CRITERIA", "Criterion", "Question"]

Criterion = Literal["accuracy", "agreement", "round"]
CRITERIA: tuple[Criterion, ...] = ("accuracy", "agreement", "round")


@dataclass(frozen=True)
class Question:
    """What advice is asked for.

    Attributes:
        run: Keys of an experiment, without its graph, network and compute times: the strategy, task, model, ….
        network: The network, which links all pairs.
        law: How long agents compute; None for no time.
        size: Bytes of the parameters; None for those of the experiment's model.
        most_neighbours: Most agents that an agent should send to in a step; None for no limit.
        problem: What is to be learned.
        disagreement: The fraction of the disagreement that is left when agents count as agreed.
        by: What to rank by; "accuracy" counts as "agreement" for strategies that its theory does not cover.
        overlap: Whether agents compute while they send and wait.
        seed: Seed of the compute times.
    """

    run: Mapping[str, Any]
    network: Network
    law: ComputeLaw | None = None
    size: int | None = None
    most_neighbours: int | None = None
    problem: Problem = field(default_factory=Problem)
    disagreement: float = 0.01
    by: Criterion = "accuracy"
    overlap: bool = True
    seed: int = 0
