"""How cost grows: linearly in agents, parameters, samples and edges; and memory not at all."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch

from basinet.sim.agents.messages.mixer import Mixer
from basinet.sim.agents.placement import Placement
from basinet.topologies import metropolis
from tests.benchmarks.harness import Row, measure, resident
from tests.benchmarks.steps import advancing, make_block

SERIES: dict[str, tuple[list[int], Any]] = {
    "agents K": (
        [100, 1000, 10_000, 100_000],
        lambda k: {"model": "softmax", "topology": {"name": "torus", "agents": k}, "batch_size": 4},
    ),
    "parameters P": (
        [128, 1280, 12_800, 128_000],
        lambda h: {
            "model": {"name": "mlp", "hidden": [h]},
            "batch_size": 32,
            "topology": {"name": "ring", "agents": 16},
        },
    ),
    "samples B": (
        [16, 160, 1600, 16_000],
        lambda b: {
            "model": {"name": "mlp", "hidden": [128]},
            "batch_size": b,
            "topology": {"name": "ring", "agents": 16},
        },
    ),
}


def series() -> Iterator[Row]:
    """Measure a step over three decades, and fit the slope of the log-log line over what is above the smallest size."""
    curves = {}
    for name, (sizes, keys) in SERIES.items():
        costs, actual = [], []
        for size in sizes:
            block = make_block(**keys(size))
            step = advancing(block, 1)
            measure(step, 0.2)
            costs.append(min(measure(step, 0.3).cpu for _ in range(3)))
            actual.append(block.x.shape[1] if name == "parameters P" else size)
            del block, step
        sizes = actual
        curves[name] = (sizes, costs)
        slope = float(np.polyfit(np.log10(sizes[1:]), np.log10(costs[1:]), 1)[0])
        row = Row("scaling", f"slope of cost over {name}, {sizes[1]:,} to {sizes[-1]:,}", ("<=", 1.1), ratios=[slope])
        row.more = {"sizes": sizes, "cpu_ms": [1e3 * c for c in costs]}
        yield row
    yield from edges(curves)
    _draw(curves, Path("runs/benchmarks/scaling.png"))


def edges(curves: dict[str, tuple[list[int], list[float]]]) -> Iterator[Row]:
    """Measure mixing alone over the number of edges."""
    degrees, costs, entries = [2, 20, 200, 2000], [], []
    for degree in degrees:
        weights = metropolis(nx.circulant_graph(20_000, range(1, degree // 2 + 1)))
        x, out = (torch.zeros(20_000, 100).normal_() for _ in range(2))
        mixer = Mixer(weights, Placement.split(1, 20_000), x)
        costs.append(min(measure(lambda m=mixer, a=x, b=out: m.combine(a, b), 0.3).cpu for _ in range(3)))
        entries.append(weights.nnz)
    curves["edges"] = (entries, costs)
    slope = float(np.polyfit(np.log10(entries[1:]), np.log10(costs[1:]), 1)[0])
    row = Row("scaling", f"slope of mixing over edges, {entries[1]:,} to {entries[-1]:,}", ("<=", 1.1), ratios=[slope])
    row.more = {"sizes": entries, "cpu_ms": [1e3 * c for c in costs]}
    yield row


def memory(steps: int = 10_000) -> Iterator[Row]:
    """Measure the growth of memory over many steps."""
    block = make_block(model={"name": "mlp", "hidden": [128]}, batch_size=32)
    block.advance(500)
    before, begin = resident(), time.perf_counter()
    block.advance(500 + steps)
    grown = resident() - before
    row = Row("scaling", f"memory after {steps:,} more steps over memory before", ("<=", 1.01))
    row.ratios = [1 + grown / before]
    row.more = {"grown_kb": grown / 1e3, "seconds": time.perf_counter() - begin}
    yield row


def _draw(curves: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    """Draw the costs on logarithmic axes, each beside a line of slope one."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(3.2 * len(curves), 3), layout="constrained")
    for axis, (name, (sizes, costs)) in zip(axes, curves.items(), strict=True):
        axis.loglog(sizes, [1e3 * c for c in costs], "o-")
        line = [1e3 * costs[-1] * size / sizes[-1] for size in sizes]
        axis.loglog(sizes, line, "--", color="gray")
        axis.set(xlabel=name, ylabel="CPU ms" if name == "agents K" else "")
        axis.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
