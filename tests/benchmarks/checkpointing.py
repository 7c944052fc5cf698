"""Checkpoints: how long training waits for them."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from basinet.sim.experiment.config import Config
from basinet.sim.run.checkpoints.background import CheckpointWriter
from basinet.sim.run.folder import RunFolder
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.setup.build import build_setup
from tests.benchmarks.harness import Row, Step

KEYS: dict[str, Any] = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": [950, 950]},
    "topology": {"name": "ring", "agents": 16},
    "strategy": "diffusion",
    "batch_size": 16,
    "replicas": 1,
    "steps": 10**6,
    "runtime": {"threads": 1},
}
EVERY = 3.0
"""Processor time between two checkpoints, in seconds."""


def rows(repeats: int = 3) -> Iterator[Row]:
    """Measure the share of the training's time for which it waits, also if torch writes the files in that time."""
    team = InlineTeam(build_setup(Config.parse(KEYS)), "auto")
    numbers = team.worker.block.x.shape[1]
    row = Row("checkpoints", f"16 agents, {numbers:,} parameters, a checkpoint every {EVERY:g} s", ("<=", 0.02))
    row.base = "the training's processor time; beside: that of the thread which writes; by torch: with torch.save"
    beside, torchs = [], []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoint").mkdir()
        for _ in range(repeats):
            everything, training = time.process_time(), time.thread_time()
            with CheckpointWriter(RunFolder(Path(folder)), 0.0, 0.0) as writer:
                row.ratios.append(_share(team, lambda: writer.replace(team.state)))
            training = time.thread_time() - training
            beside.append((time.process_time() - everything - training) / training)
            torchs.append(_share(team, lambda: torch.save(team.state(), Path(folder) / "torch.pt")))
    row.more = {"beside": beside, "by torch": torchs}
    row.note = f"beside {median(beside):.1%}, by torch {median(torchs):.1%}"
    yield row


def _share(team: InlineTeam, save: Step, count: int = 3) -> float:
    """Train, save now and then, and return the share of this thread's time that saving takes."""
    saving, begun = 0.0, time.thread_time()
    for _ in range(count):
        start = time.thread_time()
        while time.thread_time() - start < EVERY:
            team.advance(team.worker.block.step + 1)
        start = time.thread_time()
        save()
        saving += time.thread_time() - start
    return saving / (time.thread_time() - begun)
