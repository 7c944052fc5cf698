"""Checks of simulated times against the theory of waiting, and of what was trained and sent."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr

from basinet.analysis.studies.flatness_tradeoff.comparisons import larger
from basinet.analysis.studies.flatness_tradeoff.trainings import log
from basinet.analysis.studies.study import Check
from basinet.analysis.studies.topology_time.timed_trainings import (
    AGENTS,
    ALL_REDUCE,
    LAWS,
    NETWORKS,
    Timed,
    Training,
    setup_of,
)
from basinet.sim.clock.clock import clock_of
from basinet.sim.clock.compute_times import ComputeTimes
from basinet.sim.clock.conditions import under
from basinet.sim.clock.pace import pace
from basinet.sim.setup.setup import Setup
from basinet.topologies.mixing_matrix import neighborhoods

__all__ = ["growth_checks", "order_checks", "training_checks", "waiting_checks"]

_STEPS = 1680
"""Half of them are a multiple of all periods of times up to 8 steps."""
_SIGMA = 0.3
_NEIGHBOURS = {
    "ring": 2,
    "torus": 4,
    "exponential": 4,
    "one-peer exponential": 1,
    "complete": AGENTS - 1,
    ALL_REDUCE: 2,
}
"""Models that an agent sends in a step; a sum over all agents counts as one to a server and one back."""


def training_checks(trainings: Sequence[Training]) -> Iterator[Check]:
    """Check what was sent, and that the complete graph trains as all-reduce does.

    Args:
        trainings: The trainings of a task.

    Yields:
        The checks.
    """
    task, sent, ends = trainings[0].task, {}, {}
    for one in trainings:
        final = one.run.final("communicated_bytes")
        size = AGENTS * one.steps[-1] * 4 * one.setup.num_parameters
        sent[one.topology] = round(max(final.values()) / size, 6)
        ends[one.topology] = one.accuracy
    predicted, measured = [
        ", ".join(f"{name} {count:g}" for name, count in counts.items()) for counts in (_NEIGHBOURS, sent)
    ]
    yield Check(f"models that an agent sends in a step ({task})", predicted, measured, "equal", sent == _NEIGHBOURS)
    apart = float(np.nanmean(np.abs(ends["complete"] - ends[ALL_REDUCE])))
    # A sample on the boundary of two classes may fall on either side by rounding.
    yield Check.near(
        f"diffusion on the complete graph trains as all-reduce does (mean difference of accuracies, {task})",
        0.0,
        apart,
        within=0.005,
    )


def growth_checks(trainings: Sequence[Training]) -> Iterator[Check]:
    """Check that a step takes the growth rate of its waiting if compute times are constant.

    Args:
        trainings: Trainings by diffusion of one task.

    Yields:
        A check for each network.
    """
    for name, network in NETWORKS.items():
        ratios = []
        for one in trainings:
            setup = under(one.setup, {"network": network, "compute": LAWS["constant"]})
            assert setup.flow is not None and setup.network is not None and setup.config.compute is not None
            predicted = pace(
                setup.flow,
                {"graph": setup.sequence, "reverse": setup.push},
                network=setup.network,
                compute=ComputeTimes(setup.config.compute.make(), agents=AGENTS)(0)[0],
                collectives={},
            ).step
            ratios.append(_slope(setup) / float(predicted))
        claim = f"a step takes the max-plus growth rate of its waiting (ratio farthest from 1 of all graphs, {name})"
        yield Check.near(claim, 1.0, max(ratios, key=lambda ratio: abs(ratio - 1)), within=1e-3)


def waiting_checks(ring: Training, centralized: Training) -> Iterator[Check]:
    """Check what waiting alone takes, on a network that takes no time.

    Args:
        ring: Diffusion on a ring.
        centralized: Centralised training.

    Yields:
        The checks.
    """
    replicas = ring.setup.config.replicas
    draws = _STEPS / 2 * replicas
    harmonic = [1 / k for k in range(1, AGENTS + 1)]

    def mean(setup: Setup, **law: Any) -> float:
        return _slope(under(setup, {"compute": {"mean": "1 ms", **law}})) / 1e6

    law = LAWS["exponential"]
    spread = (1 - law["floor"]) * math.sqrt(sum(x * x for x in harmonic) / draws)
    yield Check.near(
        "all-reduce waits for the slowest of 16 (a + (1 − a) H₁₆ mean times, exponential)",
        law["floor"] + (1 - law["floor"]) * sum(harmonic),
        mean(centralized.setup, **law),
        within=4 * spread,
    )
    law = LAWS["stragglers"]
    share, anew = law["share"], 1 / law["spell"] / (1 - law["share"])
    none = (1 - share) ** AGENTS
    fast = 1 / (1 + (law["slowdown"] - 1) * share)
    # The chains remember: covariances of whether there is a straggler, over steps.
    kept = (1 - anew) ** np.arange(1, _STEPS)
    covariances = ((1 - share) ** 2 + share * (1 - share) * kept) ** AGENTS - none**2
    spread = fast * (law["slowdown"] - 1) * math.sqrt((none * (1 - none) + 2 * covariances.sum()) / draws)
    yield Check.near(
        "all-reduce waits for stragglers whenever there is one (mean times)",
        fast * (1 + (law["slowdown"] - 1) * (1 - none)),
        mean(centralized.setup, **law),
        within=4 * spread,
    )
    circle = replace(ring.setup, sequence=(neighborhoods(nx.cycle_graph(AGENTS, create_using=nx.DiGraph)),))
    yield Check.near(
        "on a directed ring a step takes 2 − 1 / K mean times (exponential without a least time, K = 16)",
        2 - 1 / AGENTS,
        mean(circle, name="exponential"),
        within=4 / math.sqrt(draws),  # times vary no more than a sum of so many
    )
    consensus = setup_of({**ring.run.config, "strategy": "consensus"})
    whole, atc, overlapped = (
        mean(setup, name="lognormal", sigma=_SIGMA) for setup in (centralized.setup, ring.setup, consensus)
    )
    barrier, three = (_largest(_SIGMA, count) for count in (AGENTS, 3))
    spread = 4 * math.sqrt(_SIGMA**2 / draws) + 2e-3
    yield Check.near("all-reduce waits for the slowest of 16 (mean times, lognormal)", barrier, whole, within=spread)
    yield Check(
        "a ring waits less than for all, and at least for the slowest of three (mean times, lognormal)",
        f"{three:.3f} to {barrier:.3f}",
        f"{atc:.3f}",
        "between them",
        three - spread < atc < barrier,
    )
    yield Check.near("less time from less waiting alone: diffusion on a ring", 0.17, 1 - atc / whole, within=spread)
    yield Check.near(
        "the same of consensus, which sends while it computes", 0.34, 1 - overlapped / whole, within=spread
    )


def order_checks(task: str, timed: Mapping[tuple[str, str], Mapping[str, Timed]], target: float) -> Iterator[Check]:
    """Check which kind of topology is at the target first, by the network.

    Args:
        task: The task.
        timed: The trainings by network and law, then by topology.
        target: The accuracy.

    Yields:
        The checks.
    """
    for network, first, second in (
        ("data centre", "complete", "ring"),
        ("two machines", "one-peer exponential", "complete"),
        ("Europe", "complete", ALL_REDUCE),
    ):
        here = timed[network, "constant"]
        times = [here[name].reached(target) for name in (second, first)]
        slow, fast = (log(np.where(np.isfinite(some), some, np.nan)) for some in times)
        claim = f"{first} is at the target before {second} (log ratio of times, {network}, constant times, {task})"
        yield larger(claim, slow, fast)
    for network in NETWORKS:
        some, none = (timed[network, law][ALL_REDUCE].seconds[-1] for law in ("stragglers", "constant"))
        ring, calm = (timed[network, law]["ring"].seconds[-1] for law in ("stragglers", "constant"))
        claim = f"stragglers cost all-reduce more seconds than the ring ({network}, {task})"
        yield larger(claim, some - none, ring - calm)


def _slope(setup: Setup) -> float:
    """Return how long a step takes in the long run, in nanoseconds, the mean over the replicas."""
    clock = clock_of(setup)
    half = clock.advance(_STEPS // 2).astype(np.float64)
    return float((clock.advance(_STEPS) - half).mean() / (_STEPS - _STEPS // 2))


def _largest(sigma: float, count: int) -> float:
    """Return the expected largest of some lognormal numbers of mean one."""

    def over(x: float) -> float:
        return float(1 - ndtr((math.log(x) + sigma**2 / 2) / sigma) ** count)

    return float(quad(over, 0, 1, limit=200)[0] + quad(over, 1, np.inf, limit=200)[0])
