"""Strategies on topologies: steps, bytes and simulated seconds to an accuracy, and what a strategy costs by itself."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from basinet.algorithms.strategies import STRATEGIES, StrategyTraits
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from tests.benchmarks.harness import Row
from tests.benchmarks.steps import images
from tests.stepped import STEPPED

KEYS: dict[str, Any] = {
    "task": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}},
    "model": {"name": "mlp", "hidden": [64]},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "batch_size": 16,
    "steps": 2000,
    "replicas": 1,
    "analysis": [],
    "runtime": {"threads": 1},
}
TOPOLOGIES: dict[str, dict[str, Any]] = {
    "ring": {"name": "ring", "agents": 16, "policy": "lazy"},
    "tree": {"name": "tree", "agents": 16},
    "exponential": {"name": "exponential", "agents": 16},
    "one-peer": {"name": "one_peer_exponential", "agents": 16},
    "complete": {"name": "complete", "agents": 16},
}
ACCURACY, EVERY = 0.93, 20

COMPUTE, LATENCY, BANDWIDTH = 5e-3, 1e-3, 100e6 / 8
"""The simulated network: seconds of computation a step and of waiting a step, bytes a second that an agent can send."""

BASE = "gradients, optimizer and mixing alone"

VERBS = ("gradients", "full_gradients", "adapt", "combine", "push", "exchange", "broadcast", "average")


def rows() -> Iterator[Row]:
    """Run every strategy on every topology that it can use; and measure what it costs beside a convolutional net."""
    for strategy in STEPPED:
        able = []
        for name, topology in TOPOLOGIES.items():
            row = Row("strategies", f"{strategy}, {name}", base=BASE)
            try:
                setup = build_setup(Config.parse(_keys(strategy, topology)))
            except ExperimentError as error:
                row.more["skipped"] = str(error)
                yield row
                continue
            able.append(topology)
            _run(row, setup)
            yield row
        if able:
            keys = _keys(strategy, able[0]) | {"task": images, "model": {"name": "cnn", "channels": [16, 32]}}
            row = Row("strategies", f"{strategy}, CNN 16-32, batch 32", ("<=", 1.05), base=BASE)
            with InlineTeam(build_setup(Config.parse(keys | {"batch_size": 32})), "auto") as team:
                _measure(row, team.worker.block, 20)
            yield row


def _keys(strategy: str, topology: dict[str, Any]) -> dict[str, Any]:
    more: dict[str, Any] = {}
    traits = StrategyTraits.of(STRATEGIES[strategy]())
    if traits.weights == "columns":
        topology = topology | {"policy": "push"}
    if traits.shares_subspaces:
        more["optimizer"] = {"name": "golore", "lr": 0.1, "rank": 8, "period": 50, "shared": True}
    return KEYS | {"strategy": strategy, "topology": topology} | more


def _run(row: Row, setup: Setup) -> None:
    with InlineTeam(setup, "auto") as team:
        block, reached = team.worker.block, False
        while block.step < setup.num_steps and not reached:
            team.advance(block.step + EVERY)
            measured, _ = team.measure()
            reached = bool(measured) and measured[0]["test_accuracy"] >= ACCURACY
        steps, sent = block.step, block.channel.bytes_sent
        row.more = {"steps": steps if reached else None, "megabytes_per_agent": 1e-6 * sent / setup.num_agents}
        row.more["simulated_seconds"] = _simulated(setup, steps, sent)
        row.note = (
            f"{steps} steps, {1e-6 * sent / setup.num_agents:.1f} MB an agent, {row.more['simulated_seconds']:.1f} s"
            if reached
            else f"below {ACCURACY} after {steps} steps"
        )
        _measure(row, block, 200)


def _measure(row: Row, block: Any, steps: int) -> None:
    own, total = _own_cost(block, steps)
    row.ratios = [total / (total - own)]
    row.ours_ms, row.base_ms = 1e3 * total, 1e3 * (total - own)


def _simulated(setup: Setup, steps: int, sent: int) -> float:
    """Seconds on the simulated network, in which the agent that sends most holds up the others."""
    degrees = [np.asarray((w != 0).sum(axis=0)).ravel() - (w.diagonal() != 0) for w in setup.sequence]
    busiest = np.mean([d.max() / max(d.mean(), 1e-9) for d in degrees])
    return float(steps * (COMPUTE + LATENCY) + busiest * sent / setup.num_agents / BANDWIDTH)


def _own_cost(block: Any, steps: int) -> tuple[float, float]:
    """Processor seconds a step that a strategy spends outside of the verbs, and in all."""
    inside = 0.0

    def timed(verb: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal inside
            start = time.process_time()
            result = verb(*arguments, **keywords)
            inside += time.process_time() - start
            return result

        return call

    for name in VERBS:
        setattr(block, name, timed(getattr(block, name)))
    start = time.process_time()
    for _ in range(steps):
        block.strategy.step(block)
        block.step += 1
    total = time.process_time() - start
    for name in VERBS:
        delattr(block, name)
    return (total - inside) / steps, total / steps
