"""Mixing and optimizers against the speed of memory: bytes that have to move, over those that a copy moves."""

from collections.abc import Iterator
from statistics import median

import networkx as nx
import torch
from torch import Tensor, nn, optim
from torch.profiler import ProfilerActivity, profile

from basinet.algorithms.optimizers import NSGD, NSGDC, LocalOptimizer, NSGDm
from basinet.sim.agents.messages.mixer import Mixer
from basinet.sim.agents.placement import Placement
from basinet.topologies import metropolis
from tests.benchmarks.harness import Row, Step, Time, copying, in_turn, measure

GRAPHS = {
    "ring": nx.cycle_graph,
    "random 4-regular": lambda agents: nx.random_regular_graph(4, agents, seed=0),
}
SIZES = [(16, 10**3), (16, 10**4), (16, 10**6), (256, 10**4), (1000, 10**4), (10_000, 10**3), (100_000, 10**3)]

OPTIMIZERS = {
    "SGD": (optim.SGD, {"lr": 1e-3}, 3),
    "SGD with momentum": (optim.SGD, {"lr": 1e-3, "momentum": 0.9}, 5),
    "Adam": (optim.Adam, {"lr": 1e-3}, 7),
    "normalised SGD": (NSGD, {"lr": 1e-3}, 4),
}
"""Class, settings, and how often a step has to pass over numbers of the state's size."""

NORMALISED = {
    "NSGD": (NSGD, {}),
    "NSGDm": (NSGDm, {}),
    "NSGDC, clipping": (NSGDC, {"clip": 1e-3}),
}
SHAPES = {
    "16 agents × 800,000": [(16, 800_000)],
    "MLP 20-16-10": [(16, 20), (16,), (10, 16), (10,)],
    "MLP 784-512-512-10": [(512, 784), (512,), (512, 512), (512,), (10, 512), (10,)],
    "MLP 1024-2048-2048-10": [(2048, 1024), (2048,), (2048, 2048), (2048,), (10, 2048), (10,)],
}


def _row(group: str, work: str, step: Step, numbers: int, passes: float) -> Row:
    """Compare a step that has to move `passes` × `numbers` numbers with a copy, which is two passes."""
    times: list[tuple[Time, ...]] = in_turn(step, copying(numbers))
    row = Row(group, work, (">=", 0.7), base="a copy of the same bytes")
    row.ratios = [passes / 2 * copied.cpu / own.cpu for own, copied in times]
    row.ours_ms = median(1e3 * own.cpu for own, _ in times)
    row.ours_wall_ms = median(1e3 * own.wall for own, _ in times)
    row.base_ms = median(1e3 * passes / 2 * copied.cpu for _, copied in times)
    row.more = {"gb_per_s": 4e-6 * passes * numbers / row.ours_ms}
    return row


def mixing() -> Iterator[Row]:
    """Measure W x for sparse W: each row reads its neighbours and itself, and is written once."""
    for name, make in GRAPHS.items():
        for agents, size in SIZES:
            weights = metropolis(make(agents))
            x, out = (torch.zeros(agents, size).normal_() for _ in range(2))
            mixer = Mixer(weights, Placement.split(1, agents), x)
            passes = weights.nnz / agents + 1
            row = _row("mixing", f"{name}, K={agents:,}, P={size:,}", _mix(mixer, x, out), x.numel(), passes)
            # What memory gives where rows are scattered: one neighbour of each agent is collected.
            neighbors = torch.from_numpy(weights.indices[weights.indptr[:-1]].astype("int64"))
            gather = min(measure(_gather(x, neighbors, out)).cpu for _ in range(3))
            row.more["gather_gb_per_s"] = 8e-9 * x.numel() / gather
            yield row


def _mix(mixer: Mixer, x: Tensor, out: Tensor) -> Step:
    return lambda: mixer.combine(x, out)


def _gather(x: Tensor, rows: Tensor, out: Tensor) -> Step:
    return lambda: torch.index_select(x, 0, rows, out=out)


def optimizers() -> Iterator[Row]:
    """Measure elementwise optimizers on the flat state, and the largest temporary that they ask for."""
    agents, size = 16, 10**6
    for name, (kind, settings, passes) in OPTIMIZERS.items():
        x, g = torch.zeros(agents, size).normal_(), torch.zeros(agents, size).normal_()
        local = LocalOptimizer(lambda p, k=kind, s=settings, **more: k(p, **more, **s), kind, x, lambda flat: [flat])

        def step(local: LocalOptimizer = local, g: Tensor = g) -> None:
            local.step(g, 1.0)

        row = _row("optimizers", f"{name}, K={agents}, P={size:,}", step, x.numel(), passes)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            step()
        most = max((event.cpu_memory_usage for event in seen.events()), default=0)
        row.more["largest_temporary_over_kp"] = most / (4 * x.numel())
        yield row


def normalised() -> Iterator[Row]:
    """Measure normalised SGD against torch's SGD with momentum, which passes over memory eight times."""
    for work, shapes in SHAPES.items():
        for name, (kind, settings) in NORMALISED.items():
            parameters = [nn.Parameter(torch.zeros(shape).normal_()) for shape in shapes]
            for p in parameters:
                p.grad = torch.zeros_like(p).normal_()
            agents = 16 if len(shapes) == 1 else None
            ours = kind(parameters, lr=1e-5, agents=agents, **settings)
            base = optim.SGD(parameters, lr=1e-5, momentum=0.9, foreach=True)
            times = in_turn(ours.step, base.step)
            row = Row("optimizers", f"{name}, {work}", ("<=", 1.3), base="torch's SGD with momentum, foreach")
            row.ratios = [own.cpu / other.cpu for own, other in times]
            row.ours_ms = median(1e3 * own.cpu for own, _ in times)
            row.ours_wall_ms = median(1e3 * own.wall for own, _ in times)
            row.base_ms = median(1e3 * other.cpu for _, other in times)
            yield row
