"""A step of all agents against the floor: one plain PyTorch step on the same samples, and memory traffic.

The traffic is six passes over the parameters of all agents at the bandwidth of a copy of that size; a copy is two.
"""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
from torch import nn

from basinet.sim.agents.block import Block
from basinet.sim.agents.messages.mixer import Mixer
from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.config import Config
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Regression, Task
from tests.benchmarks import models
from tests.benchmarks.harness import Row, Step, copying, in_turn, measure, resident

MLP = {"name": "mlp", "hidden": [128]}


def images(count: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images 3×32×32 of ten classes: what they show does not change what they cost."""
    return torch.randn(count, 3, 32, 32), torch.arange(count) % 10


def patches(count: int = 512) -> Task:
    """Random images 3×24×24 and what they are to be enlarged to, 3×96×96."""
    return Regression(train=(torch.rand(count, 3, 24, 24), torch.rand(count, 3, 96, 96)), num_outputs=3 * 96 * 96)


def texts(count: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sequences of 128 tokens out of 64, and their next tokens."""
    tokens = torch.randint(64, (count, 129))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


WORKS: dict[str, dict[str, Any]] = {
    "16 agents, ring, MLP 64-128-10, batch 32": {
        "keys": {"model": MLP, "topology": {"name": "ring", "agents": 16}, "batch_size": 32},
        "target": ("<=", 1.25),
    },
    "256 agents, exponential graph, MLP 64-128-10, batch 8": {
        "keys": {
            "model": MLP,
            "topology": {"name": "exponential", "agents": 256, "policy": "uniform"},
            "batch_size": 8,
        },
        "target": ("<=", 2.0),
    },
    "16 agents, ring, CNN 16-32, batch 32 of 3×32×32": {
        "keys": {"task": images, "model": {"name": "cnn", "channels": [16, 32]}, "batch_size": 32},
        "target": ("<=", 1.05),
        "micro_batches": 16,
    },
    "16 agents, ring, ResNet-8, batch 32 of 3×32×32": {
        "keys": {"task": images, "model": models.resnet8, "batch_size": 32},
        "target": ("<=", 1.05),
        "micro_batches": 16,
    },
    "16 agents, ring, residual upscaler of 88,752 parameters, batch 8 of 3×24×24": {
        "keys": {"task": patches, "model": "residual_upscaler", "batch_size": 8},
        "target": ("<=", 1.05),
        "micro_batches": 16,
    },
    "16 agents, ring, transformer 4×128, context 128, batch 4": {
        "keys": {"task": texts, "model": models.Transformer, "batch_size": 4},
        "target": ("<=", 1.25),
    },
}


def make_setup(**keys: Any) -> Setup:
    """Build the parts of a run that goes on as long as asked."""
    base = {
        "task": {"name": "digits", "partition": "shared"},
        "topology": {"name": "ring", "agents": 16},
        "strategy": "diffusion",
        "replicas": 1,
        "steps": 10**9,
        "evaluate_every": 1000,
    }
    return build_setup(Config.parse(base | keys))


def make_block(**keys: Any) -> Block:
    """Build a run in one block, on one thread."""
    setup = make_setup(**keys)
    placement = Placement.split(setup.config.replicas, setup.num_agents)
    return Block(setup, placement, torch.device("cpu"), setup.config.runtime.engine)


def advancing(block: Block, steps: int) -> Step:
    """Take steps as a run does."""
    return lambda: block.advance(block.step + steps)


def plain(setup: Setup, samples: int, steps: int, micro_batches: int = 1) -> Step:
    """Step one model on all samples, drawn with replacement from the same data."""
    model = copy.deepcopy(setup.model) if isinstance(setup.model, nn.Module) else setup.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data, loss = setup.task.train, setup.task.objective

    def step() -> None:
        picks = torch.randint(len(data[0]), (samples,))
        optimizer.zero_grad()
        for part in picks.chunk(micro_batches):
            (loss(model, tuple(t[part] for t in data)) / micro_batches).backward()
        optimizer.step()

    def several() -> None:
        for _ in range(steps):
            step()

    return several


def rows() -> Iterator[Row]:
    """Measure the works."""
    for work, given in WORKS.items():
        block = make_block(**given["keys"])
        agents, size = block.x.shape
        samples = agents * block.setup.config.batch_size
        block.advance(2)
        steps = max(1, round(0.05 / measure(advancing(block, 1), 0.05).wall))
        ours = advancing(block, steps)
        base = plain(block.setup, samples, steps, given.get("micro_batches", 1))
        times = in_turn(ours, base, copying(agents * size))
        floors = [1e3 * (floor.cpu / steps + 3 * copied.cpu) for _, floor, copied in times]
        mine = [1e3 * own.cpu / steps for own, _, _ in times]
        row = Row("steps", work, given["target"], base="one step on the same samples, and six passes over the state")
        row.ratios = [a / b for a, b in zip(mine, floors, strict=True)]
        row.ours_ms, row.base_ms = median(mine), median(floors)
        row.ours_wall_ms = median(1e3 * own.wall / steps for own, _, _ in times)
        row.more = {
            "engine": block.oracle.engine_choice,
            "parameters": size,
            "agent_steps_per_cpu_s": agents / row.ours_ms * 1e3,
        }
        yield row


def hundred_thousand() -> Iterator[Row]:
    """Measure 100,000 agents in a process of its own, whose memory tells what they need."""
    found = subprocess.run(
        [sys.executable, "-c", "from tests.benchmarks.steps import many; many(100_000)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for plain_row in json.loads(found.stdout.splitlines()[-1]):
        yield Row(**plain_row)


def many(agents: int) -> None:
    """Measure softmax regression on a random 4-regular graph, and print the rows."""
    torch.set_num_threads(1)
    config = {
        "model": "softmax",
        "topology": {"name": "random_regular", "degree": 4, "agents": agents},
        "batch_size": 1,
    }
    start = resident()
    setup = make_setup(**config)
    before = resident()
    block = Block(setup, Placement.split(1, agents), torch.device("cpu"))
    block.advance(3)
    grown = resident() - before
    matrix = block.x.numel() * 4
    mixer = Mixer(setup.weights, block.placement, block.x)
    elementwise = torch.zeros_like(block.x), torch.ones_like(block.x)
    optimizer = torch.optim.SGD([elementwise[0]], lr=1e-9, fused=True)
    elementwise[0].grad = elementwise[1]

    def kernels() -> None:
        optimizer.step()
        mixer.combine(elementwise[0], elementwise[1])

    times = in_turn(advancing(block, 1), kernels, seconds=1.0)
    name = f"{agents:,} agents, random 4-regular graph, softmax regression, batch 1"
    step = Row("many", name, ("<=", 1.5), base="the optimizer's and the mixing kernel alone")
    step.ratios = [own.cpu / base.cpu for own, base in times]
    step.ours_ms, step.base_ms = (median(1e3 * t[i].cpu for t in times) for i in (0, 1))
    step.ours_wall_ms = median(1e3 * own.wall for own, _ in times)
    memory = Row("many", "resident memory of its block, over K·P·4 bytes", ("<=", 3.0), base="K·P·4 bytes")
    memory.ratios = [grown / matrix]
    memory.more = {"block_mb": grown / 1e6, "graph_and_task_mb": (before - start) / 1e6}
    keep = Row.__dataclass_fields__
    print(json.dumps([{k: v for k, v in row.plain().items() if k in keep} for row in (step, memory)]))
