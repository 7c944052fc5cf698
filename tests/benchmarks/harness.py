"""How rows of the benchmark are measured: in turn with what they are compared to, in processor time."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

Step = Callable[[], object]


@dataclass
class Row:
    """A row of the table.

    Attributes:
        group: Name by which rows are chosen.
        work: What was done.
        target: What has to be reached, as a bound on the ratio: ("<=", 1.25).
        ours_ms: Processor milliseconds of ours, median.
        ours_wall_ms: The same on the clock.
        base_ms: Processor milliseconds of what it is compared to.
        base: What that is.
        ratios: The ratio of each repeat.
        note: What else the table shall show.
        more: Further numbers.
    """

    group: str
    work: str
    target: tuple[str, float] | None = None
    ours_ms: float | None = None
    ours_wall_ms: float | None = None
    base_ms: float | None = None
    base: str = ""
    ratios: list[float] = field(default_factory=list)
    note: str = ""
    more: dict[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool | None:
        if self.target is None or not self.ratios:
            return None
        sign, bound = self.target
        return self.ratio <= bound if sign == "<=" else self.ratio >= bound

    def plain(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio if self.ratios else None, "met": self.met}


@dataclass(frozen=True)
class Time:
    """Seconds of one call."""

    cpu: float
    wall: float


def measure(step: Step, seconds: float = 0.3) -> Time:
    """Repeat a step for about so many seconds."""
    once = _timed(step, 1)
    return _timed(step, max(1, round(seconds / max(once.wall, 1e-7))))


def _timed(step: Step, count: int) -> Time:
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        step()
    return Time((time.process_time() - cpu) / count, (time.perf_counter() - wall) / count)


def in_turn(*steps: Step, repeats: int = 5, seconds: float = 0.3) -> list[tuple[Time, ...]]:
    """Measure some steps one after the other, several times over, after a warm-up."""
    for step in steps:
        measure(step, seconds / 3)
    return [tuple(measure(step, seconds) for step in steps) for _ in range(repeats)]


def copying(numbers: int) -> Step:
    """Copy so many float32 numbers: its speed is the bandwidth that memory has at this size."""
    source, target = torch.ones(numbers), torch.zeros(numbers)
    return lambda: target.copy_(source)


def resident() -> int:
    """Bytes of this process in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def machine() -> dict[str, object]:
    """Describe where and with what a table was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    packages = ("basinet", "torch", "numpy", "numba", "scipy", "networkx", "ray")
    return {
        "processor": names[0] if names else platform.processor(),
        "processors": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "versions": {package: version(package) for package in packages},
    }
