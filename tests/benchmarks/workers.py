"""Two workers against one: what a second one gains, what it sends, and how long it waits.

The workers are processes that meet as ranks of torchrun do, or Ray actors; each has one thread, and a core if there is
one for it. All of them stay, and take a few steps in turn, so that what else the machine does meets all alike. What two
cores can do at all is measured as well: by two processes with half of the agents each that exchange nothing.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Self

import torch
import torch.distributed as dist

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.experiment.config import Config
from basinet.sim.runtimes.on_ray.ray_team import RayTeam
from basinet.sim.runtimes.on_ray.run_packing import Needs
from basinet.sim.setup.build import build_setup
from tests.benchmarks.harness import Row
from tests.benchmarks.steps import images

KEYS: dict[str, Any] = {
    "task": images,
    "model": {"name": "cnn", "channels": [16, 32]},
    "strategy": "diffusion",
    "batch_size": 32,
    "steps": 10**6,
    "analysis": [],
    "replicas": 1,
}
AGENTS, STEPS, ROUNDS, PARTS = 16, 1, 100, 5


@dataclass(frozen=True)
class Spent:
    """What a worker spends on a step."""

    wall: float
    cpu: float
    waiting: float
    bytes: float
    messages: float


class Ranks:
    """Processes that take steps when told, and do nothing otherwise."""

    def __init__(self, workers: int, agents: int = AGENTS, *, connected: bool = True) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._pipes, self._processes = [], []
        for rank in range(workers):
            ours, theirs = context.Pipe()
            placement = Placement.split(1, agents, workers, rank) if connected else Placement.split(1, agents)
            address = f"file://{self._folder.name}/store"
            self._processes.append(context.Process(target=_rank, args=(address, placement, theirs)))
            self._processes[-1].start()
            self._pipes.append(ours)

    def __enter__(self) -> Self:
        self.take(STEPS)
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send(0)
        for process in self._processes:
            process.join()
        self._folder.cleanup()

    def take(self, steps: int) -> list[Spent]:
        """Let all take so many steps."""
        for pipe in self._pipes:
            pipe.send(steps)
        return [pipe.recv() for pipe in self._pipes]


def _rank(address: str, placement: Placement, pipe: Any) -> None:
    if placement.workers > 1:
        dist.init_process_group("gloo", init_method=address, rank=placement.rank, world_size=placement.workers)
    sent = 0
    started = dist.batch_isend_irecv

    def counting(operations: list[dist.P2POp]) -> list[dist.Work]:
        nonlocal sent
        sent += sum(operation.op is dist.isend for operation in operations)
        return started(operations)

    dist.batch_isend_irecv = counting
    block = Worker(_setup(placement.agents), placement, "loop").block
    while steps := pipe.recv():
        before = block.channel.wire_bytes, block.channel.waiting_seconds, sent
        cpu, wall = time.process_time(), time.perf_counter()
        block.advance(block.step + steps)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        after = block.channel.wire_bytes, block.channel.waiting_seconds, sent
        crossed, waited, messages = ((b - a) / steps for a, b in zip(before, after, strict=True))
        pipe.send(Spent(wall / steps, cpu / steps, waited, crossed, messages))
    if placement.workers > 1:
        dist.destroy_process_group()


def _setup(agents: int = AGENTS, runtime: dict[str, Any] | None = None) -> Any:
    given = {"device": "cpu", "threads": 1, "engine": "loop"} | (runtime or {})
    keys = KEYS | {"topology": {"name": "ring", "agents": agents}, "runtime": given}
    return build_setup(Config.parse(keys), trial=False)


def rows() -> Iterator[Row]:
    """Measure the gain of a second worker beside what the machine allows, messages and bytes."""
    with Ranks(1) as alone, Ranks(2) as pair, Ranks(2, AGENTS // 2, connected=False) as apart:
        found = [[ranks.take(STEPS) for ranks in (alone, pair, apart)] for _ in range(ROUNDS)]
    one, two, half = zip(*found, strict=True)
    work = "16 agents, ring, CNN 16-32, batch 32 of 3×32×32"
    for kind, clock in ("wall", "on the clock"), ("cpu", "processor time"):
        times = [_least([max(getattr(each, kind) for each in spent) for spent in arm]) for arm in (one, half, two)]
        base, ceiling, ours = times
        yield _row(f"{work}: {clock}, one worker over two that do not talk, half of the agents each", base, ceiling)
        yield _row(f"{work}: {clock}, one worker over two", base, ours, (">=", 1.7))
        yield _row(f"{work}: {clock}, two workers that do not talk over two that do", ceiling, ours, (">=", 0.95))
    size = _setup().state(_setup().template(), 1, torch.device("cpu")).parameters.nbytes
    wire = Row("workers", f"{work}: bytes sent over those of the two rows at the boundary", ("<=", 1.05))
    wire.ratios = [spent[0].bytes / (2 * size) for spent in two]
    waiting = 1e3 * median(each.waiting for spent in two for each in spent)
    wire.note = f"{two[0][0].messages:g} message a step; waits {waiting:.3g} ms"
    yield wire


def _least(times: Sequence[float]) -> list[float]:
    """Return the least time in each of some parts of the rounds: what other processes add to a step is not ours."""
    return [min(times[part::PARTS]) for part in range(PARTS)]


def _row(work: str, base: list[float], ours: list[float], target: tuple[str, float] | None = None) -> Row:
    row = Row("workers", work, target, ratios=[a / b for a, b in zip(base, ours, strict=True)])
    row.ours_wall_ms, row.more = 1e3 * median(ours), {"base_ms": 1e3 * median(base)}
    return row


def ray_actors() -> Iterator[Row]:
    """Compare two Ray actors to two ranks, with the same blocks."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    actors, ranks = [], []
    try:
        setup = _setup(runtime={"name": "ray", "actors": 2})
        with RayTeam(setup, Needs(2, 1.0, 0.0), "loop", threading.Event(), lambda _: None) as team, Ranks(2) as pair:
            team.advance(STEPS)
            for _ in range(ROUNDS // 4):
                begin = time.perf_counter()
                team.advance(team.step + 4 * STEPS)
                actors.append((time.perf_counter() - begin) / 4)
                ranks.append(max(each.wall for each in pair.take(4 * STEPS)))
    finally:
        ray.shutdown()
    yield _row("two Ray actors over two ranks, on the clock", _least(actors), _least(ranks), ("<=", 1.03))


def tiny_steps(repeats: int = 3) -> Iterator[Row]:
    """Compare commands whose actors have next to nothing to do to one process, on the clock, start-up and all."""
    import ray

    keys = ["task=digits", "cases=null", "model=softmax", "topology.agents=8", "strategy=diffusion", "optimizer.lr=0.1"]
    keys += ["batch_size=8", "steps=4000", "replicas=1", "analysis=[]"]
    actors = {"one actor of a cluster": 1, "two actors of a cluster": 2, "two actors of a Ray of their own": 2}
    walls: dict[str, list[float]] = {name: [] for name in ("one process", *actors)}
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        cluster = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
        for _ in range(repeats):
            for name, found in walls.items():
                more = [f"runtime.actors={actors[name]}", "runtime.name=ray"] if name in actors else []
                environment = cluster if name.endswith("cluster") else cluster | {"RAY_ADDRESS": ""}
                found.append(_command([*keys, *more], environment))
    finally:
        ray.shutdown()
    base = walls.pop("one process")
    for name, found in walls.items():
        yield _row(f"4,000 steps of 8 agents, softmax regression: {name} over one process, on the clock", found, base)


def _command(keys: list[str], environment: Mapping[str, str]) -> float:
    with tempfile.TemporaryDirectory() as out:
        begin = time.perf_counter()
        command = [sys.executable, "-m", "basinet", "run", *keys, "--quiet", "--out", f"{out}/run"]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.perf_counter() - begin
