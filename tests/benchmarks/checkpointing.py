"""Checkpoints: how long training waits for them."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
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
    "steps": 10**6,
    "runtime": {"threads": 1},
}
EVERY = 3.0
"""Seconds between two checkpoints."""


def rows(repeats: int = 3) -> Iterator[Row]:
    """Compare the share of the time for which training waits to that with files written by torch in its place."""
    team = InlineTeam(build_setup(Config.parse(KEYS)), "auto")
    numbers = team.worker.block.x.shape[1]
    row = Row("checkpoints", f"16 agents, {numbers:,} parameters, a checkpoint every {EVERY:g} s", ("<=", 0.02))
    row.base = "the share with torch.save and fsync in the steps' place"
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoint").mkdir()
        for _ in range(repeats):
            with CheckpointWriter(RunFolder(Path(folder)), EVERY, EVERY) as writer:
                row.ratios.append(_share(team, lambda: writer.is_due() and writer.replace(team.state)))
            shares.append(_share(team, _by_torch(team, Path(folder) / "torch.pt")))
    row.more = {"base_shares": shares}
    row.note = f"by torch: {min(shares):.1%} to {max(shares):.1%}"
    yield row


def _share(team: InlineTeam, look: Callable[[], object], seconds: float = 8 * EVERY) -> float:
    """Take steps, look whether a checkpoint is due after each, and return the share of the time that this takes."""
    waited, begun = 0.0, time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        team.advance(team.worker.block.step + 1)
        now = time.perf_counter()
        look()
        waited += time.perf_counter() - now
    return waited / (now - begun)


def _by_torch(team: InlineTeam, path: Path) -> Step:
    saved = [time.monotonic()]

    def save() -> None:
        if time.monotonic() - saved[0] > EVERY:
            with open(path, "wb") as file:
                torch.save(team.state(), file)
                file.flush()
                os.fsync(file.fileno())
            saved[0] = time.monotonic()

    return save
