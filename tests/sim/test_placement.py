"""Every strategy with every kind of optimizer gives the same numbers in one process and in two that exchange rows."""

import subprocess
import sys

import pytest
import torch

from basinet.algorithms.strategies import STRATEGIES
from basinet.sim.block import Block
from basinet.sim.config import Config
from basinet.sim.placement import Placement
from basinet.sim.setup import Setup

OPTIMIZERS = {
    "sgd": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True},
    "adam": {"name": "adam", "lr": 0.01},
    "nsgd": {"name": "nsgd", "lr": 0.05, "momentum": 0.5},
    "golore": {"name": "golore", "lr": 0.1, "rank": 2, "period": 7, "momentum": 0.5, "shared": True},
    "lozo_m": {"name": "lozo_m", "lr": 0.01, "eps": 0.1, "period": 3, "shared": True},
    "mezo": {"name": "mezo", "lr": 0.01, "eps": 0.1},
}
SOME_STRATEGIES = {"lozo_m": ("centralized", "consensus", "relay"), "mezo": ("diffusion", "asynchronous")}
"""Those that are tried with derivative-free optimizers: what these hand on is the same in all."""

SCHEDULES = {
    "sgd": "cosine",
    "adam": "constant",
    "nsgd": {"name": "step", "milestones": [0.5]},
    "golore": "cosine",
    "lozo_m": "cosine",
    "mezo": "constant",
}

TOPOLOGIES = {
    "push_sum": {"name": "exponential", "policy": "push"},
    "push_diging": {"name": "exponential", "policy": "push"},
    "push_pull": {"name": "exponential", "policy": "uniform"},
    "relay": {"name": "tree"},
}

SCRIPT = """
import sys
import torch
import torch.distributed as dist
sys.path.insert(0, {folder!r})
import test_placement
dist.init_process_group("gloo", init_method="file://{store}", rank={rank}, world_size=2)
torch.set_num_threads(1)
torch.save(test_placement.everything(2, {rank}), "{store}.{rank}")
"""


def everything(workers, rank):
    """Run all pairs on this worker's rows: five agents and three replicas, so that a replica is split."""
    found = {}
    for strategy in STRATEGIES:
        for name, optimizer in OPTIMIZERS.items():
            shares = getattr(STRATEGIES[strategy], "shares_subspaces", False)
            if strategy != "diffusion" and shares != (name == "golore"):
                continue
            if strategy not in SOME_STRATEGIES.get(name, STRATEGIES):
                continue
            config = {
                "task": "digits",
                "model": {"name": "mlp", "hidden": [4]},
                "topology": {"agents": 5, **TOPOLOGIES.get(strategy, {"name": "wheel", "policy": "lazy"})},
                "strategy": strategy,
                "optimizer": optimizer,
                "schedule": SCHEDULES[name],
                "optimizer_state": "mix"
                if name == "adam" and getattr(STRATEGIES[strategy], "combines_x", True)
                else "keep",
                "batch_size": 4,
                "steps": 20,
                "replicas": 3,
                "runtime": {"dtype": "float64", "engine": "stacked"},
            }
            setup = Setup.build(Config.parse(config))
            block = Block(setup, Placement.split(3, 5, workers, rank), torch.device("cpu"), "stacked")
            block.advance(20)
            found[f"{strategy} {name}"] = block.x.clone(), block.bytes_sent
    return found


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    folder = __file__.rpartition("/")[0]
    jobs = [
        subprocess.Popen([sys.executable, "-c", SCRIPT.format(folder=folder, store=tmp_path / "store", rank=rank)])
        for rank in range(2)
    ]
    whole = everything(1, 0)
    assert [job.wait(timeout=300) for job in jobs] == [0, 0]
    parts = [torch.load(f"{tmp_path}/store.{rank}") for rank in range(2)]
    for name, (x, sent) in whole.items():
        apart = torch.cat([part[name][0] for part in parts])
        assert torch.isfinite(x).all() and parts[0][name][1] == sent, name
        torch.testing.assert_close(apart, x, rtol=1e-9, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
