"""Two workers against one: what a second one gains, what it sends, and how long it waits.

The workers are processes that meet as ranks of torchrun do, or Ray actors; each has one thread, and a core if there is
one for it. On a machine with other work, the ratio of processor time says what the ratio on the clock would be: what
one worker spends on all agents, over what the busiest of two spends on its own.
"""

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

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
    "topology": {"name": "ring", "agents": 16},
    "strategy": "diffusion",
    "batch_size": 32,
    "steps": 10_000,
    "analysis": [],
    "replicas": 1,
    "runtime": {"device": "cpu", "threads": 1, "engine": "loop"},
}
STEPS, REPEATS = 10, 5


@dataclass(frozen=True)
class Spent:
    """What a worker spends on a step."""

    wall: float
    cpu: float
    waiting: float
    bytes: float
    messages: float


def rows() -> Iterator[Row]:
    """Measure the gain of a second worker, messages and bytes."""
    alone, (one, other) = _ranks(1)[0], _ranks(2)
    work = "16 agents, ring, CNN 16-32, batch 32 of 3×32×32"
    busiest = [max(a.cpu, b.cpu) for a, b in zip(one, other, strict=True)]
    slowest = [max(a.wall, b.wall) for a, b in zip(one, other, strict=True)]
    gain = Row("workers", f"{work}: processor time, one worker over the busiest of two", (">=", 1.7))
    gain.base = "one worker with one thread"
    gain.ratios = [a.cpu / b for a, b in zip(alone, busiest, strict=True)]
    gain.ours_ms, gain.base_ms = 1e3 * median(busiest), 1e3 * median(spent.cpu for spent in alone)
    yield gain
    clock = Row("workers", f"{work}: on the clock, one worker over two", (">=", 1.7))
    clock.ratios = [a.wall / b for a, b in zip(alone, slowest, strict=True)]
    clock.ours_wall_ms = 1e3 * median(slowest)
    clock.more = {"waiting_ms": 1e3 * median(spent.waiting for spent in one)}
    clock.note = f"waits {clock.more['waiting_ms']:.3g} ms"
    yield clock
    size = _setup().state(_setup().template(), 1, torch.device("cpu")).parameters.nbytes
    wire = Row("workers", f"{work}: bytes sent over those of the two rows at the boundary", ("<=", 1.05))
    wire.ratios = [spent.bytes / (2 * size) for spent in one]
    wire.note = f"{one[0].messages:g} message a step"
    yield wire


def ray_actors() -> Iterator[Row]:
    """Compare two Ray actors to two ranks, with the same blocks."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        setup = _setup({"name": "ray", "actors": 2})
        with RayTeam(setup, Needs(2, 1.0, 0.0), "loop", threading.Event(), lambda _: None) as team:
            team.advance(STEPS)
            walls = []
            for repeat in range(1, REPEATS + 1):
                begin = time.perf_counter()
                team.advance((repeat + 1) * STEPS)
                walls.append((time.perf_counter() - begin) / STEPS)
    finally:
        ray.shutdown()
    ranks = [max(a.wall, b.wall) for a, b in zip(*_ranks(2), strict=True)]
    row = Row("workers", "two Ray actors over two ranks, on the clock", ("<=", 1.03), base="two ranks")
    row.ratios = [a / b for a, b in zip(walls, ranks, strict=True)]
    row.ours_wall_ms, row.more = 1e3 * median(walls), {"base_wall_ms": 1e3 * median(ranks)}
    yield row


def _setup(runtime: dict[str, Any] | None = None) -> Any:
    return build_setup(Config.parse(KEYS | {"runtime": KEYS["runtime"] | (runtime or {})}), trial=False)


def _ranks(workers: int) -> list[list[Spent]]:
    """Measure each of some ranks, which start together."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        results = [context.Pipe(duplex=False) for _ in range(workers)]
        processes = [
            context.Process(target=_rank, args=(f"file://{folder}/store", rank, workers, results[rank][1]))
            for rank in range(workers)
        ]
        for process in processes:
            process.start()
        found = [receiver.recv() for receiver, _ in results]
        for process in processes:
            process.join()
    return found


def _rank(address: str, rank: int, workers: int, result: Any) -> None:
    if workers > 1:
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=workers)
    sent = 0
    started = dist.batch_isend_irecv

    def counting(operations: list[dist.P2POp]) -> list[dist.Work]:
        nonlocal sent
        sent += sum(operation.op is dist.isend for operation in operations)
        return started(operations)

    dist.batch_isend_irecv = counting
    block = Worker(_setup(), Placement.split(1, 16, workers, rank), "loop").block
    block.advance(STEPS)
    found = []
    for _ in range(REPEATS):
        before = block.channel.wire_bytes, block.channel.waiting_seconds, sent
        cpu, wall = time.process_time(), time.perf_counter()
        block.advance(block.step + STEPS)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        after = block.channel.wire_bytes, block.channel.waiting_seconds, sent
        crossed, waited, messages = ((b - a) / STEPS for a, b in zip(before, after, strict=True))
        found.append(Spent(wall / STEPS, cpu / STEPS, waited, crossed, messages))
    result.send(found)
    if workers > 1:
        dist.destroy_process_group()
