"""Two workers against one: what a second one gains, what it sends, and how long it waits.

The workers are processes that meet as ranks of torchrun do, or Ray actors; each has one thread, and a core if there is
one for it. All of them stay, and take a few steps in turn, so that what else the machine does meets all alike. What two
cores can do at all is measured as well: by two processes with half of the agents each that exchange nothing.
"""

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
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
AGENTS, STEPS, ROUNDS = 16, 4, 25


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


def _slowest(spent: list[Spent]) -> float:
    return max(each.wall for each in spent)


def rows() -> Iterator[Row]:
    """Measure the gain of a second worker beside what the machine allows, messages and bytes."""
    with Ranks(1) as alone, Ranks(2) as pair, Ranks(2, AGENTS // 2, connected=False) as apart:
        found = [[ranks.take(STEPS) for ranks in (alone, pair, apart)] for _ in range(ROUNDS)]
    work = "16 agents, ring, CNN 16-32, batch 32 of 3×32×32"
    one, two, half = ([_slowest(spent[place]) for spent in found] for place in range(3))
    ceiling = Row("workers", f"{work}: on the clock, one worker over two with half of the agents each that do not talk")
    ceiling.base = "one worker with one thread"
    ceiling.ratios = [a / b for a, b in zip(one, half, strict=True)]
    ceiling.ours_wall_ms, ceiling.more = 1e3 * median(half), {"base_wall_ms": 1e3 * median(one)}
    ceiling.note = "what two cores allow"
    yield ceiling
    gain = Row("workers", f"{work}: on the clock, one worker over two", (">=", 1.7))
    gain.base = "one worker with one thread"
    gain.ratios = [a / b for a, b in zip(one, two, strict=True)]
    waiting = 1e3 * median(spent.waiting for _, workers, _ in found for spent in workers)
    gain.ours_wall_ms, gain.more = 1e3 * median(two), {"base_wall_ms": 1e3 * median(one), "waiting_ms": waiting}
    gain.note = f"waits {waiting:.3g} ms"
    yield gain
    share = Row("workers", f"{work}: on the clock, the gain of the second worker over what two cores allow", (">=", 0.95))
    share.base = "two workers that do not talk"
    share.ratios = [b / a for a, b in zip(two, half, strict=True)]
    share.ours_wall_ms, share.more = 1e3 * median(two), {"base_wall_ms": 1e3 * median(half)}
    yield share
    cpu = Row("workers", f"{work}: processor time, one worker over the busiest of two", (">=", 1.7))
    cpu.base = "one worker with one thread"
    busiest = [max(spent.cpu for spent in workers) for _, workers, _ in found]
    cpu.ratios = [a.cpu / b for ((a,), _, _), b in zip(found, busiest, strict=True)]
    cpu.ours_ms, cpu.base_ms = 1e3 * median(busiest), 1e3 * median(a.cpu for (a,), _, _ in found)
    yield cpu
    size = _setup().state(_setup().template(), 1, torch.device("cpu")).parameters.nbytes
    wire = Row("workers", f"{work}: bytes sent over those of the two rows at the boundary", ("<=", 1.05))
    wire.ratios = [workers[0].bytes / (2 * size) for _, workers, _ in found]
    wire.note = f"{found[0][1][0].messages:g} message a step"
    yield wire


def ray_actors() -> Iterator[Row]:
    """Compare two Ray actors to two ranks, with the same blocks."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    actors, ranks = [], []
    try:
        setup = _setup(runtime={"name": "ray", "actors": 2})
        with RayTeam(setup, Needs(2, 1.0, 0.0), "loop", threading.Event(), lambda _: None) as team, Ranks(2) as pair:
            team.advance(STEPS)
            for _ in range(ROUNDS):
                begin = time.perf_counter()
                team.advance(team.step + STEPS)
                actors.append((time.perf_counter() - begin) / STEPS)
                ranks.append(_slowest(pair.take(STEPS)))
    finally:
        ray.shutdown()
    row = Row("workers", "two Ray actors over two ranks, on the clock", ("<=", 1.03), base="two ranks")
    row.ratios = [a / b for a, b in zip(actors, ranks, strict=True)]
    row.ours_wall_ms, row.more = 1e3 * median(actors), {"base_wall_ms": 1e3 * median(ranks)}
    yield row
