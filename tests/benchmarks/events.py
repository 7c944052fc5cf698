"""Agents that act at events, compared to synchronous steps of as many gradients."""

import statistics
from collections.abc import Iterator
from typing import Any

from basinet.sim.agents.messages import mixing_kernels
from basinet.sim.experiment.config import Config
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.setup.build import build_setup
from tests.benchmarks.harness import Row, in_turn
from tests.benchmarks.steps import images

KEYS: dict[str, Any] = {
    "task": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}},
    "topology": {"name": "ring", "agents": 16},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "batch_size": 32,
    "steps": 10**6,
    "replicas": 1,
    "analysis": [],
    "runtime": {"threads": 1},
}
WORK: dict[str, dict[str, Any]] = {
    "digits, logistic": {"model": {"name": "mlp", "hidden": []}},
    "digits, MLP 64": {"model": {"name": "mlp", "hidden": [64]}},
    "digits, MLP 256": {"model": {"name": "mlp", "hidden": [256]}},
    "digits, MLP 64, 8 replicas": {"model": {"name": "mlp", "hidden": [64]}, "replicas": 8},
    "images, CNN 16-32": {"task": images, "model": {"name": "cnn", "channels": [16, 32]}},
}
_STEPS = 32
"""Steps between evaluations."""

LAWS = ({"name": "exponential", "mean": "1 ms"}, {"name": "lognormal", "mean": "1 ms", "sigma": 0.3})


def rows() -> Iterator[Row]:
    """Measure steps of 16 agents on a ring."""
    assert mixing_kernels  # loaded now, not within what is measured
    every = [(strategy, law) for strategy in ("wait_free", "ad_psgd", "async_server") for law in LAWS]
    for work, keys in WORK.items():
        for strategy, law in every if work == "digits, MLP 64" else every[:2]:
            more = {"strategy": strategy, "compute": law}
            setups = [build_setup(Config.parse(KEYS | keys | part)) for part in (more, {"strategy": "diffusion"})]
            with InlineTeam(setups[0], "auto") as ours, InlineTeam(setups[1], "auto") as theirs:
                blocks = ours.worker.block, theirs.worker.block
                for block in blocks:  # until most widths of batches have been seen
                    block.advance(2 * _STEPS)
                times = in_turn(*(lambda block=block: block.advance(block.step + _STEPS) for block in blocks))
            row = Row("events", f"{strategy}, {law['name']}, {work}", ("<=", 2.0), base="diffusion")
            row.ratios = [own.cpu / base.cpu for own, base in times]
            medians = (statistics.median(pair[n].cpu for pair in times) for n in range(2))
            row.ours_ms, row.base_ms = (1e3 / _STEPS * median for median in medians)
            yield row
