"""Shared parts of the study of flatness and optimization: strategies, sizes, checks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.special import ndtri

from basinet.analysis.studies.study import Check, Progress
from basinet.analysis.theory import Rule
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.config import Config
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.build import build_setup

__all__ = [
    "AGENTS",
    "FULL",
    "RULES",
    "SEED",
    "SHORT",
    "STRATEGIES",
    "SURE",
    "Sizes",
    "above_one",
    "interval",
    "make_block",
    "on_landscape",
    "part_of",
]

RULES: dict[str, Rule] = {"centralized": "centralized", "diffusion ATC": "atc", "consensus": "consensus"}
"""Update rules by label, from the strategy claimed to leave a minimum last to the one claimed to leave it first."""

STRATEGIES = {"centralized": "centralized", "diffusion ATC": "diffusion", "consensus": "consensus"}
"""Names of the strategies in an experiment, by label."""

AGENTS = 16
"""Number of agents, on a ring with Metropolis weights."""

SEED = 1
"""Seed of the study; settings were tuned under seed 0."""

SURE = float(ndtri(0.975))
"""Half-width of a 95 % interval in standard errors."""


def make_block(label: str, *, lr: float, replicas: int, **keys: Any) -> Block:
    """Set up replicas of a network.

    Args:
        label: The strategy.
        lr: Step size.
        replicas: Number of replicas.
        **keys: Further keys of an experiment.

    Returns:
        All of them in one block.
    """
    config = Config.parse({
        "topology": {"name": "ring", "agents": AGENTS},
        "strategy": STRATEGIES[label],
        "optimizer": {"name": "sgd", "lr": lr},
        "replicas": replicas,
        "seed": SEED,
        **keys,
    })  # fmt: skip
    setup = build_setup(config, trial=False)  # a landscape and a point fit
    return Block(setup, Placement.split(replicas, AGENTS), runtime_of(config.runtime).device())


def on_landscape(task: Mapping[str, Any], start: float) -> dict[str, Any]:
    """Describe agents on a landscape, without a limit on the steps.

    Args:
        task: The landscape.
        start: Initial value of every agent.

    Returns:
        Keys of an experiment.
    """
    return {"task": dict(task), "model": {"name": "point", "start": start}, "batch_size": 1, "steps": 10**9}


@dataclass(frozen=True)
class Sizes:
    """The size of the study on landscapes, reduced in tests.

    Attributes:
        replicas: Replicas on landscapes.
        settled: Steps until the excess risk on a quadratic is stationary.
        batches: Batch sizes for which exit times are measured.
        exits: Fraction of the replicas whose exit is waited for.
        visits: Steps in the landscape with two wells.
        rest: Steps after which agents are looked for where they have begun to rest.
    """

    replicas: int
    settled: int
    batches: tuple[int, ...]
    exits: float
    visits: int
    rest: int


FULL = Sizes(replicas=128, settled=240, batches=(1, 2, 4), exits=0.75, visits=6000, rest=600)
SHORT = Sizes(replicas=8, settled=20, batches=(8, 16), exits=0.125, visits=100, rest=200)


def part_of(progress: Progress, start: float, share: float) -> Progress:
    """Return a progress callback for a part of the work.

    Args:
        progress: The callback for the whole work.
        start: Start of the part, from 0 to 1.
        share: Fraction of the whole work.

    Returns:
        A callback for the part.
    """

    def part(done: float, what: str) -> None:
        progress(start + share * done, what)

    return part


def interval(value: float, lower: float, upper: float) -> str:
    """Format an effect with its interval.

    Args:
        value: The effect.
        lower: Lower end of its 95 % interval.
        upper: Upper end.

    Returns:
        Text such as "2.2 [1.8, 2.6]".
    """
    return f"{value:.3g} [{lower:.3g}, {upper:.3g}]"


def above_one(claim: str, predicted: float, value: float, error: float) -> Check:
    """Check that a ratio is above one.

    Args:
        claim: The claim in words.
        predicted: The predicted ratio.
        value: The measured ratio.
        error: The standard error of its logarithm.

    Returns:
        The check.
    """
    low, high = value * math.exp(-SURE * error), value * math.exp(SURE * error)
    return Check(claim, predicted, interval(value, low, high), "the 95 % interval lies above 1", low > 1)
