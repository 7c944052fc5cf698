"""The study of topologies by simulated time."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.topology_time.cycle_times import cycle_times, ranked
from basinet.analysis.studies.topology_time.time_figures import (
    draw_curves,
    draw_cycle_times,
    draw_leads,
    draw_targets,
)
from basinet.analysis.studies.topology_time.timed_trainings import (
    AGENTS,
    ALL_REDUCE,
    LAWS,
    NETWORKS,
    TASKS,
    Training,
    trained,
)
from basinet.analysis.studies.topology_time.waiting_claims import (
    growth_checks,
    order_checks,
    training_checks,
    waiting_checks,
)

__all__ = ["topology_time"]

_TRAINING = 0.8
"""Share of the duration that trainings take."""
_TARGET = 0.8
"""The accuracy to be reached, as a share of what all-reduce ends with."""


def topology_time(
    progress: Progress,
    folder: Path,
    *,
    steps: Annotated[int, Field(ge=2, le=10**6)] = 500,
    replicas: Annotated[Count, Field(ge=2)] = 5,
) -> Findings:
    """Which topology is the fastest in seconds, on networks and laws of compute time, against steps and the theory.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        steps: Number of steps of each training.
        replicas: Number of replicas, at least two.

    Returns:
        The findings.
    """

    def first(done: float, told: str) -> None:
        progress(_TRAINING * done, told)

    trainings = list(trained(first, folder, steps=steps, replicas=replicas))
    checks: list[Check] = []
    drawings: list[Drawing] = []
    for place, task in enumerate(TASKS):
        progress(_TRAINING + (1 - _TRAINING) * place / (len(TASKS) + 1), f"times of {task}")
        some = [one for one in trainings if one.task == task]
        more, drawn = _task(task, some)
        checks += more
        drawings += drawn
    progress(1 - (1 - _TRAINING) / (len(TASKS) + 1), "waiting and published networks")
    by_name = {one.topology: one for one in trainings if one.task == next(iter(TASKS))}
    checks += growth_checks([one for one in by_name.values() if one.topology != ALL_REDUCE])
    checks += waiting_checks(by_name["ring"], by_name[ALL_REDUCE])
    times = cycle_times()
    progress(1.0, "done")
    return Findings(
        title="Topologies by simulated time",
        about=[
            f"{AGENTS} agents train on the digits, whose classes differ from agent to agent (Dirichlet, α = 0.1), by"
            " diffusion on five graphs, and by all-reduce. These trainings do not depend on what messages and gradients"
            " take, so that each is carried out once, and timed under all conditions. The accuracy is the mean of that"
            " of the agents' own models on the test data.",
            "Networks: a data centre (10 Gb/s, 50 μs); two machines with eight agents each, which share 100 Mb/s"
            " between them (100 μs), and have 10 GB/s inside; and sixteen countries of the Géant network, by the model"
            " of Marfoq et al., of which agents with successive numbers are neighbours.",
            "Compute times of a gradient, all of mean 1 ms: constant; half of it constant and half exponential; and"
            " stragglers, ten times slower for 20 steps on average, in a twentieth of the steps. All-reduce takes the"
            " algorithm that is fastest on the network.",
        ],
        checks=[*checks, *map(ranked, times)],
        drawings=[*drawings, draw_cycle_times(times)],
        sources=[
            "O. Marfoq, C. Xu, G. Neglia, R. Vidal: Throughput-optimal topology design for cross-silo federated"
            " learning, NeurIPS 2020, arXiv:2010.12229.",
            "G. Neglia, G. Calbi, D. Towsley, G. Vardoyan: The role of network topology for distributed machine"
            " learning, INFOCOM 2019: sparse graphs can win even where communication is free.",
        ],
    )


def _task(task: str, trainings: list[Training]) -> tuple[list[Check], list[Drawing]]:
    """Time the trainings of a task under all conditions."""
    timed = {
        (network, law): [one.timed({"network": NETWORKS[network], "compute": LAWS[law]}) for one in trainings]
        for network in NETWORKS
        for law in LAWS
    }
    by_name = {key: {one.topology: one for one in some} for key, some in timed.items()}
    whole = next(one for one in trainings if one.topology == ALL_REDUCE)
    target = _TARGET * float(np.nanmean(whole.accuracy[-1]))
    checks = [*training_checks(trainings), *order_checks(task, by_name, target)]
    return checks, [draw_curves(task, timed, target), draw_leads(task, timed), draw_targets(task, timed, target)]
