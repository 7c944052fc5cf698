"""Simulated times of runs on other networks and with other laws of compute time: they do not depend on the training."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.algorithms.strategies import EventDriven
from basinet.analysis.compare.targets import Reached, median_of
from basinet.analysis.statistics.quantities import quantity_of
from basinet.analysis.statistics.run_labels import describe, setting
from basinet.launch.finished.finished_models import setup_of
from basinet.sim.clock.clock import TIMES, clock_of
from basinet.sim.clock.conditions import under
from basinet.sim.clock.event_clock import EventClock
from basinet.sim.clock.laws import Measured
from basinet.sim.clock.rehearsed_flow import data_flow
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import KINDS, Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.grids.grid import expand
from basinet.sim.experiment.words import override
from basinet.sim.run.claim import claim
from basinet.sim.run.execution.twins import take_over
from basinet.sim.run.folder import Run, RunFolder
from basinet.sim.run.monitor import write_tables
from basinet.sim.run.records import FINISHED, Row
from basinet.sim.setup.setup import Setup

__all__ = ["Retimed", "retimed", "write_retimed"]

_KEYS = ("network", "compute")
"""Keys of an experiment on which times depend beside the steps."""


@dataclass(frozen=True, eq=False)
class Retimed:
    """A run with other times.

    Attributes:
        run: The run.
        setup: Its parts, with the network and the law of compute time.
        given: The description of network and compute times.
        axes: What was given several values, as keys and texts.
        name: The run's name, with these values.
    """

    run: Run
    setup: Setup
    given: Mapping[str, Any]
    axes: Mapping[str, str]
    name: str

    @property
    def steps(self) -> int:
        """The last step of a finished run; of another, the last that it is to take."""
        return int(self.run.status["step"]) if self.run.status["state"] in FINISHED else self.setup.num_steps

    @property
    def acts_at_events(self) -> bool:
        """Whether agents take no steps together, so that other times would have been another training."""
        return isinstance(self.setup.strategy(), EventDriven)

    @property
    def seats(self) -> tuple[list[str], list[int]]:
        """Names of the agents, and the machine of each."""
        network, agents = self.setup.network, self.setup.num_agents
        if network is None:
            return [str(agent) for agent in range(agents)], [0] * agents
        return list(network.names), [0] * agents if network.hosts is None else network.hosts.tolist()

    @cached_property
    def moments(self) -> dict[int, list[dict[str, float]]]:
        """`TIMES` of the replicas at the evaluations, by step, and at the last one."""
        clock = EventClock(self.setup) if self.acts_at_events else clock_of(self.setup)
        found = {}
        for step in sorted({self.steps, *(int(row["step"]) for row in self.run.metrics)}):
            clock.advance(step)
            found[step] = clock.moments()
        return found

    @property
    def final(self) -> dict[str, NDArray[np.float64]]:
        """`TIMES` at the last step, of the replicas that have not diverged; of all, if all have."""
        rows = self.moments[self.steps]
        kept = [row for replica, row in enumerate(rows) if replica not in self.run.diverged] or rows
        return {name: np.array([row.get(name, math.nan) for row in kept]) for name in TIMES}

    def revised(self, row: Row) -> Row:
        """Return measurements with the run's times in place of those that they may have."""
        rest = {name: value for name, value in row.items() if name not in TIMES}
        evaluated = "communicated_bytes" in row and "agent" not in row
        return {**rest, **(self.moments[row["step"]][row["replica"]] if evaluated else {})}

    def until(self, metric: str, value: float) -> Reached:
        """Find how long replicas need to reach a target.

        Args:
            metric: A metric.
            value: Its target, which is reached from the side of worse values.

        Returns:
            The median over the replicas in seconds; those that have not reached it are censored.
        """
        larger = quantity_of(metric, [self.run]).direction == "larger"
        times, happened = [], []
        for replica, (steps, values) in sorted(self.run.series(metric).items()):
            lost = replica in self.run.diverged
            hits = [
                s for s, v in zip(steps, values, strict=True) if (v >= value if larger else v <= value) and not lost
            ]
            happened.append(bool(hits))
            at = self.moments[hits[0] if hits else steps[-1]][replica]["simulated_time"]
            times.append(math.inf if lost else at)
        return median_of(times, happened)


def retimed(run: Run, words: Sequence[str] = ()) -> Iterator[Retimed]:
    """Compute the times of a run anew, without training.

    Args:
        run: The run, finished or not, with or without a network.
        words: `key=value` for keys below `network` and `compute`, which override the run's; a list of values gives as
            many timings.

    Yields:
        The timings.

    Raises:
        ExperimentError: A key is another one, or wrong; or there is neither a network nor a law of compute time.
    """
    for word in words:
        if word.partition("=")[0].partition(".")[0] not in _KEYS:
            raise ExperimentError(f"{word}: times depend on {' and '.join(_KEYS)} alone; give keys of these")
    description = {key: copy.deepcopy(run.config[key]) for key in _KEYS if run.config.get(key) is not None}
    for key in {word.partition("=")[0].partition(".")[0] for word in words} & description.keys():
        description[key].pop("digest", None)  # it may be another file
    override(description, words)
    if all(description.get(key) is None for key in _KEYS):
        raise ExperimentError(
            f"network: {run.path} has neither network nor compute; give some, such as compute.name=constant"
            " compute.mean='20 ms'"
        )
    strategy = KINDS["strategy"].parse(run.config["strategy"])
    events = isinstance(strategy.make(), EventDriven)
    if events and words:
        raise ExperimentError(
            f"strategy: agents of {strategy.name} act at events, so that {run.path} would have trained otherwise in"
            " other times; carry it out anew"
        )
    lossy = any(KINDS["faults"].parse(fault).name == "network_loss" for fault in run.config.get("faults") or ())
    if lossy and any(word.startswith("network") for word in words):
        raise ExperimentError(
            f"network: messages of {run.path} were lost as its network says, so that it would have trained otherwise on"
            " another; carry it out anew"
        )
    left_out = () if events else ("compute",) if lossy else _KEYS
    untimed = replace(run, config={key: value for key, value in run.config.items() if key not in left_out})
    setup = setup_of(untimed, None)
    setup, seconds = setup if events else replace(setup, flow=data_flow(setup)), run.status.get("pass_seconds")
    for axes, point in expand({"strategy": "isolated", **description}):
        given = {key: point[key] for key in _KEYS if point.get(key) is not None}
        parts = under(setup, given, seconds)
        if isinstance(parts.compute, Measured):
            seconds = parts.compute.seconds  # the same for all timings
        texts = {key: describe(setting(given, key)) for key in axes}
        described = {key: value for key, value in parts.config.describe().items() if key in given}
        yield Retimed(run, parts, described, texts, "-".join([run.name, *axes.values()]))


def write_retimed(timings: Sequence[Retimed], out: Path) -> None:
    """Write runs with their new times as an experiment, as if they had been carried out so.

    Args:
        timings: The timings, of finished runs.
        out: The experiment's folder, which must not hold another experiment.

    Raises:
        ExperimentError: A run is not finished, or the folder holds something else.
    """
    for timed in timings:
        if timed.run.status["state"] not in FINISHED:
            raise ExperimentError(f"--write: {timed.run.path} is not finished, but {timed.run.progress}")
    configs = {
        timed.name: Config.parse({**timed.run.config, **dict.fromkeys(_KEYS), **timed.given}) for timed in timings
    }
    out.mkdir(parents=True, exist_ok=True)
    first = next(iter(configs.values()))
    claim(Experiment({**first.describe(), "case": None}).with_runs(configs), out, {}, fresh=False)
    for timed in timings:
        folder = RunFolder(out / timed.name)
        write_tables(timed.setup, folder)
        take_over(timed.run.path, folder, configs[timed.name], timed.revised)
