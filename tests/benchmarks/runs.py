"""Whole runs: what evaluation takes of them, and what replicas in one process save."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from basinet.sim.experiment.config import Config
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.setup.build import build_setup
from tests.benchmarks.harness import Row, in_turn

KEYS: dict[str, Any] = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": [128]},
    "topology": {"name": "ring", "agents": 16},
    "strategy": "diffusion",
    "batch_size": 32,
    "steps": 1000,
}


def evaluation() -> Iterator[Row]:
    """Measure the share of a run's processor time that its eleven evaluations take."""
    for replicas in (1, 10):
        team = InlineTeam(build_setup(Config.parse(KEYS | {"replicas": replicas, "runtime": {"threads": 1}})), "auto")
        block = team.worker.block
        times = in_turn(team.measure, lambda b=block: b.advance(b.step + 20))
        row = Row("evaluation", f"16 agents, 1,000 steps, replicas={replicas}", ("<=", 0.05), base="the whole run")
        row.ratios = [11 * m.cpu / (11 * m.cpu + 50 * s.cpu) for m, s in times]
        row.ours_ms = median(11e3 * m.cpu for m, _ in times)
        row.base_ms = median(1e3 * (11 * m.cpu + 50 * s.cpu) for m, s in times)
        yield row


def replicas(repeats: int = 5) -> Iterator[Row]:
    """Compare one command with ten replicas to ten commands with one, on the clock, start-up and all."""
    keys = ["model.hidden=[128]", "task=digits", "cases=null", "strategy=diffusion", "batch_size=32", "steps=1000"]

    def command(*more: str) -> float:
        with tempfile.TemporaryDirectory() as out:
            begin = time.perf_counter()
            arguments = [*keys, *more, "optimizer.lr=0.1", "analysis=[]", "--out", f"{out}/run"]
            subprocess.run([sys.executable, "-m", "basinet", "run", *arguments], check=True, capture_output=True)
            return time.perf_counter() - begin

    row = Row("replicas", "R=10 in one process against 10 runs, 16 agents, MLP, 1,000 steps", (">=", 5.0))
    row.base = "ten commands one after another"
    walls = []
    for _ in range(repeats):
        together = command("replicas=10")
        apart = sum(command("replicas=1", f"seed={seed}") for seed in range(10))
        row.ratios.append(apart / together)
        walls.append((1e3 * together, 1e3 * apart))
    row.ours_wall_ms, row.more = sorted(walls)[repeats // 2][0], {"apart_wall_ms": sorted(walls)[repeats // 2][1]}
    yield row
