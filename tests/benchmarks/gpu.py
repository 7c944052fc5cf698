"""A step of 16 agents on one GPU against a step of one plain model on the same samples, in bfloat16 autocast."""

from collections.abc import Iterator
from statistics import median

import torch

from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from tests.benchmarks import models
from tests.benchmarks.harness import Row, in_turn
from tests.benchmarks.steps import advancing, images, make_setup

AGENTS, BATCH = 16, 64


def rows() -> Iterator[Row]:
    """Measure ResNet-18 with the stem for small images; the ratio is of samples a second, on the clock."""
    work = f"one GPU: {AGENTS} agents, ResNet-18, batch {BATCH} of 3×32×32, bfloat16"
    row = Row("gpu", work, (">=", 0.85), base=f"one plain model, batch {AGENTS * BATCH}")
    if not torch.cuda.is_available():
        row.more = {"skipped": "no GPU"}
        yield row
        return
    device = torch.device("cuda")
    runtime = {"device": "cuda", "autocast": "bfloat16"}
    setup = make_setup(task=lambda: images(4096), model=models.resnet18, batch_size=BATCH, runtime=runtime)
    block = Block(setup, Placement.split(1, AGENTS), device)
    model = setup.template().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, targets = block.task.train
    advance = advancing(block, 5)

    def ours() -> None:
        advance()
        torch.cuda.synchronize()

    def plain() -> None:
        for _ in range(5):
            picks = torch.randint(len(inputs), (AGENTS * BATCH,), device=device)
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(model(inputs[picks]), targets[picks])
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()

    times = in_turn(ours, plain, seconds=3.0)
    row.ratios = [base.wall / own.wall for own, base in times]
    row.ours_wall_ms = median(1e3 * own.wall / 5 for own, _ in times)
    row.base_ms = median(1e3 * base.wall / 5 for _, base in times)
    row.more = {"engine": block.oracle.engine_choice, "samples_per_s": AGENTS * BATCH / row.ours_wall_ms * 1e3}
    yield row
