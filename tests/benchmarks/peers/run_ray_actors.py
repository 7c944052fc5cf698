"""Cost of a round with one Ray actor an agent: `python run_ray_actors.py ROUNDS`.

This is what a simulator by the book looks like, written by hand: each actor has a model and an optimizer, and the
driver hands it the parameters of its neighbours. Averaging is fused with the next step, so that a round is one call an
actor. Install it with `pip install ray`. The processor time is that of the driver and of all actors, without
that of Ray's own processes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import workload
from torch.nn.utils import vector_to_parameters


class Agent:
    """One agent: its samples, its model and its optimizer."""

    def __init__(self, index: int, x: np.ndarray, y: np.ndarray) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(index)
        self.x, self.y = torch.tensor(x), torch.tensor(y)
        self.model = workload.mlp()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=workload.LEARNING_RATE)
        self.parameters = self.flat()

    def flat(self) -> np.ndarray:
        return workload.flat(self.model).numpy()

    def step(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Average with the neighbours, then take a step."""
        mean = torch.from_numpy((self.parameters + left + right) / 3)
        vector_to_parameters(mean, self.model.parameters())
        picks = torch.randint(len(self.x), (workload.BATCH_SIZE,))
        self.optimizer.zero_grad()
        torch.nn.functional.cross_entropy(self.model(self.x[picks]), self.y[picks]).backward()
        self.optimizer.step()
        self.parameters = self.flat()
        return self.parameters

    def cpu(self) -> float:
        return time.process_time()


@contextmanager
def start() -> Iterator[workload.Peer]:
    """Start Ray and the actors."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        make = ray.remote(num_cpus=0)(Agent)
        agents = [make.remote(index, x.numpy(), y.numpy()) for index, (x, y) in enumerate(workload.shares())]
        parameters = ray.get([agent.flat.remote() for agent in agents])

        def advance(rounds: int) -> None:
            nonlocal parameters
            for _ in range(rounds):
                neighbours = zip(parameters[-1:] + parameters[:-1], parameters[1:] + parameters[:1], strict=True)
                calls = [agent.step.remote(*pair) for agent, pair in zip(agents, neighbours, strict=True)]
                parameters = ray.get(calls)

        yield workload.Peer(
            ray.__version__,
            advance,
            lambda: [torch.tensor(vector) for vector in parameters],
            lambda: time.process_time() + sum(ray.get([agent.cpu.remote() for agent in agents])),
        )
    finally:
        ray.shutdown()


if __name__ == "__main__":
    workload.main("ray actors", start)
