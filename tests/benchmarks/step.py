"""Cost of one step against its floor: `python -m tests.benchmarks.step`, from the repository's root.

The floor is one plain PyTorch SGD step on the same number of samples, drawn with replacement from the same data.
Both run in turn in one process on one thread; what is compared is CPU time.
"""

import statistics
import time
from collections.abc import Callable

import torch

from basinet.sim.block import Block
from basinet.sim.config import Config
from basinet.sim.mixer import Placement
from basinet.sim.setup import Setup

STEPS = 200
REPEATS = 7


def diffusion(agents: int, batch_size: int, strategy: str = "diffusion") -> tuple[Callable[[], None], Setup]:
    """A diffusion step of the simulator: sampling, gradients, optimizer, mixing."""
    config = Config.parse(
        {
            "task": "digits",
            "model": {"name": "mlp", "hidden": [128]},
            "topology": {"name": "ring", "agents": agents},
            "strategy": strategy,
            "batch_size": batch_size,
            "replicas": 1,
            "steps": 10**9,
            "evaluate_every": 1000,
        }
    )
    setup = Setup.build(config)
    block = Block(setup, Placement.split(1, agents), torch.device("cpu"))
    return lambda: block.advance(block.step + 1), setup


def plain(setup: Setup, samples: int) -> Callable[[], None]:
    """The floor: one model, one optimizer, one batch of all samples."""
    model = setup.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = setup.task.train

    def step() -> None:
        picks = torch.randint(len(x), (samples,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[picks]), y[picks]).backward()
        optimizer.step()

    return step


def cpu_ms(step: Callable[[], None]) -> float:
    """CPU milliseconds a step."""
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return 1e3 * (time.process_time() - start) / STEPS


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    ours, setup = diffusion(16, 32)
    floor = plain(setup, 16 * 32)
    for step in (ours, floor):
        cpu_ms(step)
    times = [(cpu_ms(ours), cpu_ms(floor)) for _ in range(REPEATS)]
    ratios = sorted(a / b for a, b in times)
    print(f"torch {torch.__version__}, 1 thread, {REPEATS} interleaved repeats of {STEPS} steps")
    print(f"{'work':44} {'ours ms':>8} {'floor ms':>9} {'ratio':>6} {'min–max':>12}")
    print(
        f"{'16 agents, ring, MLP 64-128-10, batch 32':44} {statistics.median(t[0] for t in times):8.2f} "
        f"{statistics.median(t[1] for t in times):9.2f} {statistics.median(ratios):6.2f} "
        f"{ratios[0]:5.2f}–{ratios[-1]:.2f}"
    )


if __name__ == "__main__":
    main()
