"""Advice: graphs, and sums over all agents, ranked by the time that they need on a network."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from basinet.analysis.advice.candidates import Topology
from basinet.analysis.advice.choices import Choices, Made
from basinet.analysis.advice.question import Criterion, Question
from basinet.analysis.advice.round_times import Choice, ComputeDraws, RoundTime, round_time
from basinet.sim.clock.compute_times import ComputeTimes
from basinet.sim.clock.laws import DrawnLaw
from basinet.sim.experiment.component import ExperimentError
from basinet.topologies.networks import nanoseconds

__all__ = ["Advice", "Advised", "Changed", "advise", "what_if"]

_STEPS, _REPLICAS = 120, 16
"""How many steps are simulated if compute times vary, and how often."""
_CHANGES: Mapping[str, tuple[float, float, float]] = {
    "bandwidth ×½": (0.5, 1, 1),
    "bandwidth ×2": (2, 1, 1),
    "latency ×½": (1, 0.5, 1),
    "latency ×2": (1, 2, 1),
    "stragglers ×½": (1, 1, 0.5),
    "stragglers ×2": (1, 1, 2),
}
"""Factors of bandwidth and latency, and the power of compute times."""


@dataclass(frozen=True)
class Advised:
    """A graph, or a sum over all agents, and what it needs.

    Attributes:
        name: Its name.
        choice: What its steps wait for.
        topology: The topology as an experiment describes it, or a graph designed for the network; None for a sum.
        neighbours: Most agents that an agent sends to in a step; None for a sum.
        time: How long a step takes.
        steps: How many steps "agreement" and "accuracy" need; infinite if they are never reached. Without "accuracy" if
            theory does not cover the strategy, or agents do not count alike.
    """

    name: str
    choice: Choice
    topology: Topology | None
    neighbours: int | None
    time: RoundTime
    steps: Mapping[Criterion, float]

    def needs(self, by: Criterion, step: float | None = None) -> float:
        """Return the nanoseconds that it needs, infinite if that is not known.

        Args:
            by: To what: "accuracy", "agreement", or a single "round".
            step: How long a step takes, in nanoseconds; by default, as long as found.

        Returns:
            Nanoseconds.
        """
        return (1.0 if by == "round" else self.steps.get(by, math.inf)) * (self.time.step if step is None else step)


@dataclass(frozen=True)
class Changed:
    """What advice would be if something were otherwise.

    Attributes:
        needs: Nanoseconds by name, the best first.
        changes: Whether the order is another one than without the change.
    """

    needs: Mapping[str, float]
    changes: bool


@dataclass(frozen=True)
class Advice:
    """Choices, the best first.

    Attributes:
        by: What they are ranked by.
        size: Bytes of the parameters.
        choices: The choices.
        left_out: Why others are left out, by name.
        draws: How long agents compute.
    """

    by: Criterion
    size: int
    choices: tuple[Advised, ...]
    left_out: Mapping[str, str]
    draws: ComputeDraws


def advise(question: Question) -> Advice:
    """Rank graphs and sums over all agents by the time that they need on a network.

    The time of a step follows from the strategy's data flow, as the clock of a run takes it: exactly from the cycle of
    waiting that sets its pace, or, if compute times vary, from a simulation. Agreement needs as many steps as mixing
    takes to shrink disagreement; accuracy, as many as `rounds_to_accuracy` says.

    Args:
        question: What is asked.

    Returns:
        The advice.

    Raises:
        ExperimentError: The strategy has no graph, or none fits.
    """
    choices, draws = Choices(question), _draws(question)
    made: dict[str, Made] = {}
    known: list[Advised] = []
    left_out: dict[str, str] = {}
    for maker, make in choices.makers(draws.means).items():
        try:
            one = make()
            time = round_time(one.choice, question.network, draws, overlap=question.overlap)
        except (ExperimentError, ValueError) as error:
            left_out[maker] = str(error)
            continue
        twin = next((other for other, before in made.items() if one.same_graph(before)), None)
        if twin is None:
            name = one.name or maker
            made[name] = one
            known.append(Advised(name, one.choice, one.topology, one.neighbours, time, one.steps))
        else:
            left_out[maker] = f"it is the same graph as {twin}"
    if not known:
        raise ExperimentError(f"network: no graph fits: {next(iter(left_out.values()))}")
    by: Criterion = question.by
    if by == "accuracy" and not any("accuracy" in one.steps for one in known):
        by = "agreement"
    ranked = tuple(sorted(known, key=lambda one: (one.needs(by), one.time.step)))
    return Advice(by, choices.size, ranked, left_out, draws)


def what_if(question: Question, advice: Advice) -> dict[str, Changed]:
    """Find out whether other choices would be best if bandwidth, latency or the spread of compute times were others.

    Args:
        question: What was asked.
        advice: The advice.

    Returns:
        What would be, by what is halved or doubled; the spread is left alone if all agents always compute as long.
    """
    found = {}
    for what, (bandwidth, latency, power) in _CHANGES.items():
        draws = advice.draws if power == 1 else advice.draws.spread(power)
        if power != 1 and (draws.times == advice.draws.times).all():
            continue
        network = question.network.scaled(latency=latency, bandwidth=bandwidth)
        times = {
            one.name: round_time(one.choice, network, draws, overlap=question.overlap).step for one in advice.choices
        }
        needs = {one.name: one.needs(advice.by, times[one.name]) for one in advice.choices}
        order = sorted(needs, key=lambda name: (needs[name], times[name]))
        found[what] = Changed({name: needs[name] for name in order}, order != [one.name for one in advice.choices])
    return found


def _draws(question: Question) -> ComputeDraws:
    law, agents = question.law, question.network.agents
    if law is None:
        return ComputeDraws(np.zeros((1, 1, agents), dtype=np.int64), np.zeros(agents, dtype=np.int64))
    try:
        draw = ComputeTimes(law, agents=agents, replicas=_REPLICAS, seed=question.seed)
        times = np.stack([draw(step) for step in range(_STEPS)])
    except (OSError, ValueError) as error:
        raise ExperimentError(f"compute: {error}") from None
    means = times.mean(axis=(0, 1))
    if isinstance(law, DrawnLaw):
        means = np.resize(law.factors, agents) * nanoseconds(law.mean)
    return ComputeDraws(times, np.rint(means).astype(np.int64))
