"""The clock of asynchronous agents, which act at events."""

from collections.abc import Callable, Sequence

import numpy as np

from basinet.algorithms import draws
from basinet.algorithms.strategies import EventDriven
from basinet.sim.clock.clock import moments, remedy
from basinet.sim.clock.compute_times import ComputeTimes
from basinet.sim.clock.event_pass import EventPass
from basinet.sim.clock.laws.stalled_time import stalled
from basinet.sim.clock.message_lines import MessageLines
from basinet.sim.clock.row_operations import Operation
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.faults import LinkFault
from basinet.sim.faults.message_losses import MessageLosses
from basinet.sim.setup.setup import Setup
from basinet.topologies.mixing_matrix import edges_of
from basinet.topologies.networks import MissingLink

__all__ = ["EventClock"]


class EventClock:
    """The events of all replicas, step by step: step n ends in the instant in which K n gradients are finished.

    Args:
        setup: The parts of the run. Without a law of compute times, each gradient takes a nanosecond.

    Attributes:
        step: Number of steps taken.
        passes: The events of each replica.

    Raises:
        ExperimentError: The network lacks a link, the law of compute times is not one for so many agents, or the
            strategy's settings do not fit.
    """

    def __init__(self, setup: Setup) -> None:
        config, strategy, agents = setup.config, setup.strategy(), setup.num_agents
        assert isinstance(strategy, EventDriven)
        heard: list[list[tuple[int, float]]] = [[] for _ in range(agents)]
        for receiver, sender, weight in zip(*(ends.tolist() for ends in edges_of(setup.weights)), strict=True):
            heard[receiver].append((sender, weight))
        self.step = 0
        self._agents = agents
        self._row_bytes = setup.num_parameters * setup.dtype.itemsize
        try:
            self._times = _Times(setup)
        except (OSError, ValueError) as error:
            raise ExperimentError(f"compute: {error}") from None
        try:
            pairs = [*strategy.links(heard)]
        except ValueError as error:
            raise ExperimentError(f"strategy: {config.strategy.name}: {error}") from None
        try:
            lines = [MessageLines(setup.network, pairs, self._row_bytes) for _ in range(config.replicas)]
        except MissingLink as error:
            raise ExperimentError(f"network: {error}{remedy(config)}") from None
        self.passes = [
            EventPass(
                strategy,
                heard,
                own,
                self._times.of(replica),
                draws.key(config.seed, "events", replica),
                MessageLosses(setup.faults, pairs, network=setup.network, replica=replica, seed=config.seed),
            )
            for replica, own in enumerate(lines)
        ]
        self._lossy = any(isinstance(fault, LinkFault) for fault in setup.faults)

    def take(self) -> list[list[Operation]]:
        """Take a step.

        Returns:
            What is computed in it, for each replica.
        """
        self.step += 1
        operations = [own.step(self.step * self._agents) for own in self.passes]
        self._times.forget(min(min(own.finished) for own in self.passes))
        return operations

    def advance(self, until: int) -> np.ndarray:
        """Take steps.

        Args:
            until: The step to stop at.

        Returns:
            When the last of them has ended in each replica, in nanoseconds, int64 [R].
        """
        while self.step < until:
            self.take()
        return self._ends()

    def _ends(self) -> np.ndarray:
        return np.array([own.now for own in self.passes])

    def moments(self) -> list[dict[str, float]]:
        """Return `basinet.sim.clock.clock.moments` after the last step."""
        return moments(self._ends(), self.shares())

    def shares(self) -> dict[str, np.ndarray]:
        """Divide the agents' time, as far as they have begun to compute.

        Returns:
            Shares [R], which sum to one: of "compute"; of "communication", waiting while the message that was missing
            travelled; and of "idle", waiting for other agents. NaN before any time has passed.
        """
        parts = np.array([[sum(own.computed), sum(own.travelled), sum(own.waited)] for own in self.passes])
        total = parts.sum(1)
        compute, communication, idle = parts.T / np.where(total > 0, total, np.nan)
        return {"compute": compute, "communication": communication, "idle": idle}

    def measurements(self, replica: int) -> dict[str, float]:
        """Return what an evaluation records of a replica's messages.

        Args:
            replica: The replica.

        Returns:
            The bytes sent; the share of the messages that was lost, if any may be; and if anything was used, the mean
            and the largest age of it, in newer versions.
        """
        own = self.passes[replica]
        count, total, largest = own.ages
        found: dict[str, float] = {"communicated_bytes": own.sent * self._row_bytes}
        if self._lossy and own.sent:
            found["lost_messages"] = own.lost / own.sent
        return found | ({"mean_staleness": total / count, "max_staleness": largest} if count else {})


class _Times:
    """What the gradients of all agents take, as long as an agent has yet to begin one of this number."""

    def __init__(self, setup: Setup) -> None:
        config, sizes = setup.config, {"agents": setup.num_agents, "replicas": setup.config.replicas}
        self._draw: Callable[[int], np.ndarray] = lambda _: np.ones((config.replicas, setup.num_agents), np.int64)
        if setup.compute is not None:
            self._draw = ComputeTimes(stalled(setup.compute, setup.faults), **sizes, seed=config.seed)
        self._rows: dict[int, list[list[int]]] = {}

    def of(self, replica: int) -> Callable[[int], Sequence[int]]:
        """Return a function from the number of a gradient to what it takes each agent of a replica, [K]."""

        def times(step: int) -> list[int]:
            if step not in self._rows:
                self._rows[step] = self._draw(step).tolist()
            return self._rows[step][replica]

        return times

    def forget(self, before: int) -> None:
        """Forget gradients that all agents have begun."""
        for step in [step for step in self._rows if step < before]:
            del self._rows[step]
