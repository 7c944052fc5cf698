"""The choices that advice ranks: graphs with the strategy that is asked about, and sums over all agents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.sparse import csr_array

from basinet.algorithms.strategies import EventDriven, StrategyTraits
from basinet.analysis.advice.candidates import Topology, candidates
from basinet.analysis.advice.question import Criterion, Question
from basinet.analysis.advice.round_times import Choice, scaled
from basinet.analysis.theory.mode_recursion import rule_of
from basinet.analysis.theory.rounds_to_accuracy import rounds_to_accuracy
from basinet.sim.clock.data_flow import DataFlow
from basinet.sim.clock.rehearsed_flow import data_flow
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.sharing import Shared
from basinet.topologies import consensus_factor, mixing_time
from basinet.topologies.designs import fastest_star
from basinet.topologies.mixing_matrix import edges_of
from basinet.topologies.networks import Network
from basinet.topologies.spectra.consensus_theory import steps_to_shrink
from basinet.topologies.timing.all_reduces import COLLECTIVES, Round, duration

__all__ = ["Choices", "Made"]

_ALL_REDUCES = ("ring", "halving_doubling", "recursive_doubling", "hierarchical", "tree")


@dataclass(frozen=True)
class Made:
    """A choice, and how many steps it needs.

    Attributes:
        choice: What its steps wait for.
        steps: How many steps "agreement" and "accuracy" need.
        topology: The topology as an experiment describes it, or a graph; None for a sum over all agents.
        neighbours: Most agents that an agent sends to in a step; None for a sum.
        name: A more telling name than that of its maker; empty if there is none.
    """

    choice: Choice
    steps: dict[Criterion, float]
    topology: Topology | None = None
    neighbours: int | None = None
    name: str = ""

    def same_graph(self, other: "Made") -> bool:
        """Return whether the other choice mixes in the same way."""
        mine, others = (made.choice.weights.get("graph", ()) for made in (self, other))
        return len(mine) == len(others) > 0 and all(abs(W - V).max() == 0 for W, V in zip(mine, others, strict=True))


class Choices:
    """Makes choices; what they have in common is made once.

    Args:
        question: What is asked.

    Attributes:
        size: Bytes of the parameters.

    Raises:
        ExperimentError: The strategy has no graph, or the experiment is not possible.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._shared = Shared()
        self._flows: dict[str, DataFlow] = {}
        self._common: Config | None = None
        complete = {"name": "complete", "agents": question.network.agents}
        component = Config.parse({**question.run, "topology": complete}).strategy
        strategy = component.make()
        if isinstance(strategy, EventDriven):
            raise ExperimentError(
                f"strategy: agents of {component.name} act at events, and advice is about steps that all take together;"
                " allowed are strategies with such steps, such as diffusion; basinet run compares the others"
            )
        setup, traits = self._setup(complete), StrategyTraits.of(strategy)
        if not traits.uses_graph:
            raise ExperimentError(f"strategy: {component.name} sends along no graph, but must for advice")
        self._rule, self._columns = rule_of(strategy), traits.weights == "columns"
        held = setup.num_parameters * setup.dtype.itemsize
        self.size = held if question.size is None else question.size
        self._factor = self.size / held

    def makers(self, compute: np.ndarray) -> dict[str, Callable[[], Made]]:
        """Return functions that make all choices, by name.

        Args:
            compute: How long each agent computes on average, nanoseconds [K].

        Returns:
            Functions, which raise an ExperimentError or a ValueError where something does not fit.
        """
        network, limit = self._question.network, self._question.most_neighbours
        asked = candidates(network, self.size, compute, most_neighbours=limit)
        return {
            **{name: lambda make=make: self._graph(make()) for name, make in asked.items()},  # type: ignore[misc]
            "all_reduce": self._all_reduce,
            "server": self._server,
        }

    def _setup(self, topology: Topology, **keys: str) -> Setup:
        config = Config.parse({**self._question.run, "topology": topology, **keys})
        own = {"topology": config.topology, "strategy": config.strategy}
        # All else is the same object for all, so that they share what is made of it, and trials.
        self._common = self._common or config
        return build_setup(self._common.model_copy(update=own), self._shared)

    def _flow(self, setup: Setup) -> DataFlow:
        """Return the data flow of a strategy, which does not depend on the graph."""
        name = setup.config.strategy.name
        if name not in self._flows:
            self._flows[name] = scaled(data_flow(setup), self._factor)
        return self._flows[name]

    def _graph(self, topology: Topology) -> Made:
        question, setup = self._question, self._setup(topology)
        neighbours = max(int(np.bincount(edges_of(W)[1]).max(initial=0)) for W in setup.sequence)
        if question.most_neighbours is not None and neighbours > question.most_neighbours:
            raise ValueError(f"an agent has {neighbours} neighbours")
        rule, rounds = self._rule or (None, 1)
        # Where columns sum to one, sums shrink as the disagreement under the transposed weights does.
        sequence = [csr_array(W.T) for W in reversed(setup.sequence)] if self._columns else setup.sequence
        mixing = [csr_array(np.linalg.matrix_power(W.toarray(), rounds)) for W in sequence]
        steps: dict[Criterion, float] = {"agreement": _steps_to_agree(mixing, question.disagreement)}
        need = None if rule is None else rounds_to_accuracy(rule, mixing, question.problem)
        if need is not None:
            steps["accuracy"] = need.steps
        choice = Choice(self._flow(setup), {"graph": setup.sequence, "reverse": setup.push})
        return Made(choice, steps, topology, neighbours)

    def _all_reduce(self) -> Made:
        """Sum up by the algorithm that takes least."""

        def collective(network: Network, size: int) -> Sequence[Round]:
            return COLLECTIVES[_fastest(network, size)](network, size)

        return self._sum(collective, f"all_reduce ({_fastest(self._question.network, self.size)})")

    def _server(self) -> Made:
        """Sum up at the agent from which the slowest message is fastest."""
        network = self._question.network
        hub, _ = max(fastest_star(network, self.size).degree, key=lambda pair: pair[1])

        return self._sum(partial(COLLECTIVES["server"], agent=hub), f"server ({network.names[hub]})")

    def _sum(self, collective: Callable[[Network, int], Sequence[Round]], name: str) -> Made:
        question = self._question
        setup = self._setup({"name": "complete", "agents": question.network.agents}, strategy="centralized")
        steps: dict[Criterion, float] = {"agreement": 1.0}
        need = rounds_to_accuracy("centralized", setup.sequence, question.problem)
        if need is not None and self._rule is not None:
            steps["accuracy"] = need.steps
        return Made(Choice(self._flow(setup), {}, collective), steps, name=name)


def _fastest(network: Network, size: int) -> str:
    """Return the name of the all-reduce that takes least."""
    found, reason = {}, ""
    for name in _ALL_REDUCES:
        try:
            found[name] = duration(network, COLLECTIVES[name](network, size))
        except ValueError as error:
            reason = reason or str(error)
    if not found:
        raise ValueError(reason)
    return min(found, key=found.__getitem__)


def _steps_to_agree(matrices: list[csr_array], left: float) -> float:
    """Count the steps that shrink disagreement to a fraction; over a period, by the spectral norm of its product."""
    if len(matrices) == 1:
        return mixing_time(matrices[0], eps=left)
    return len(matrices) * steps_to_shrink(consensus_factor(matrices), eps=left)
