"""Workload that every peer runs, and how its cost is measured.

Scikit-learn's digits are dealt i.i.d. over 16 agents on a ring. In every round, each agent takes one SGD step with an
MLP 64-128-10 on a batch of 32 of its own samples, then averages its parameters with its two neighbours'. All agents
start from the same parameters. Needs torch and scikit-learn alone, so that any interpreter that has a peer can run it.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

AGENTS = 16
BATCH_SIZE = 32
LEARNING_RATE = 0.1
TRAIN = 1437
WARM_UP = 20


@dataclass(frozen=True)
class Peer:
    """A simulator that is ready to run the workload.

    Attributes:
        version: Its version.
        advance: Runs so many further rounds.
        parameters: Gives the flat parameters of each agent.
        cpu: Gives the processor seconds that it has used so far.
    """

    version: str
    advance: Callable[[int], object]
    parameters: Callable[[], list[Tensor]]
    cpu: Callable[[], float] = time.process_time


def digits() -> tuple[Tensor, Tensor]:
    """Load all images, scaled to [0, 1], and their labels."""
    from sklearn.datasets import load_digits  # here, because what imports this file in many processes needs no data

    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


def shares() -> list[tuple[Tensor, Tensor]]:
    """Deal the training samples to the agents."""
    x, y = digits()
    order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(0))
    return [(x[share], y[share]) for share in order.tensor_split(AGENTS)]


def mlp() -> nn.Module:
    """Make the model, always with the same initial parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def flat(model: nn.Module) -> Tensor:
    """Copy the parameters of a model into a vector."""
    with torch.no_grad():
        return parameters_to_vector(model.parameters())


def accuracy(parameters: list[Tensor]) -> float:
    """Test the average of the agents' models."""
    model = mlp()
    vector_to_parameters(torch.stack(parameters).mean(0), model.parameters())
    x, y = digits()
    with torch.no_grad():
        return (model(x[TRAIN:]).argmax(1) == y[TRAIN:]).float().mean().item()


def measure(peer: Peer, rounds: int) -> dict[str, object]:
    """Measure the cost of a round after a warm-up, without the start-up."""
    peer.advance(WARM_UP)
    cpu, wall = peer.cpu(), time.perf_counter()
    peer.advance(rounds)
    wall = time.perf_counter() - wall
    cpu = peer.cpu() - cpu
    return {
        "version": peer.version,
        "cpu_s_per_round": cpu / rounds,
        "wall_s_per_round": wall / rounds,
        "rounds": rounds,
        "accuracy": accuracy(peer.parameters()),
    }


def main(name: str, start: Callable[[], AbstractContextManager[Peer]]) -> None:
    """Print what a peer costs, or why it cannot be imported, as a line of JSON, and nothing else.

    A SyntaxError on import means that the peer needs a newer Python.
    """
    parser = argparse.ArgumentParser(description=f"Cost of a round with {name}.")
    parser.add_argument("rounds", type=int, help="rounds to measure")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), start() as peer:
            found = measure(peer, rounds)
    except (ImportError, SyntaxError) as error:
        found = {"missing": f"{type(error).__name__}: {error}"}
    print(json.dumps({"peer": name, **found}))
