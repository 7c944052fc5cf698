"""Cost of a round with decent-bench: `python run_decent_bench.py ROUNDS`.

Install it with `pip install git+https://github.com/team-decent/decent-bench torch`; it needs Python 3.13. What runs is
its ATC on its PyTorchCost, by `Algorithm.run` alone: without trials, progress bar, checkpoints and metrics, and with
no snapshot of the agents but the last. Its ATC combines the neighbours' adapted parameters with the agent's own
parameters from before the adaptation, which costs the same as the textbook's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import workload
from torch import nn


@contextmanager
def start() -> Iterator[workload.Peer]:
    """Set decent-bench up."""
    import networkx as nx
    from decent_bench.agents import Agent
    from decent_bench.algorithms.p2p import ATC
    from decent_bench.algorithms.utils import pytorch_initialization
    from decent_bench.costs import PyTorchCost
    from decent_bench.networks import P2PNetwork
    from decent_bench.utils.interoperability import to_torch

    def agent(share: tuple) -> Agent:
        samples = list(zip(*share, strict=True))
        cost = PyTorchCost(samples, workload.mlp(), nn.CrossEntropyLoss(), batch_size=workload.BATCH_SIZE)
        return Agent(cost, state_snapshot_period=10**9)

    network = P2PNetwork(nx.cycle_graph(workload.AGENTS), [agent(share) for share in workload.shares()])
    algorithm = ATC(step_size=workload.LEARNING_RATE, x0=pytorch_initialization(network, all_same=True))
    done = 0

    def advance(rounds: int) -> None:
        nonlocal done
        algorithm.iterations = done + rounds
        algorithm.run(network, start_iteration=done)
        done += rounds

    yield workload.Peer(
        version("decent-bench"), advance, lambda: [to_torch(agent.x, agent.cost.device) for agent in network.agents()]
    )


if __name__ == "__main__":
    workload.main("decent-bench", start)
