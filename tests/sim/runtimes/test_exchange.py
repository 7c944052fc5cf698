"""However agents are dealt to workers, they compute the same, and no more than what neighbours need crosses, once."""

import os
import pickle
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
import torch.distributed as dist
from ray import cloudpickle

from basinet.sim.agents.messages.gloo_threads import gloo_threads
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.data.nests import leaves
from basinet.sim.experiment.config import Config
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared
from tests.processes import Processes

AGENTS, REPLICAS = 8, 2
STEPS = {2: 40, 3: 20, 5: 20}
"""Steps taken by so many workers."""

MLP = {
    "task": {"name": "digits", "train_size": 80},
    "model": {"name": "mlp", "hidden": [2], "norm": "batch"},
    "batch_size": 16,  # normalised over few samples, rounding grows
}
CASES = {
    "ring": {"topology": {"name": "ring"}},
    "exponential": {"topology": {"name": "exponential", "policy": "uniform"}},
    "digraph": {"strategy": "push_sum", "topology": {"name": "exponential", "policy": "push"}},
    "two matrices": {"strategy": {"name": "push_pull", "order": "ab"}, "topology": {"name": "exponential"}},
    "sequence": {"topology": {"name": "random_matchings", "period": 7}},
    "momentum": {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}, "optimizer_state": "mix"},
    "tracking": {"strategy": {"name": "gradient_tracking", "order": "diging"}},
    "compression": {"strategy": {"name": "beer", "compressor": "qsgd"}},
    "attack": {"strategy": {"name": "robust", "rule": "median"}, "attack": {"name": "gaussian", "share": 0.2}},
    "lies": {"attack": {"name": "alie", "share": 0.2}},
    "loss": {
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "optimizer_state": "mix",
        "faults": {"name": "link_loss", "probability": 0.3, "symmetric": False},
    },
    "late": {
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "optimizer_state": "mix",
        "faults": [{"name": "link_delay", "steps": 3, "least": 1}, {"name": "link_rounding", "levels": 64}],
    },
    "running sums": {
        "strategy": "push_diging",
        "topology": {"name": "exponential", "policy": "push"},
        "faults": [
            {"name": "bursts", "loss": 0.2, "burst": 3.0, "symmetric": False},
            {"name": "crashes", "probability": 0.1, "spell": 2.0},
        ],
    },
    "personal": MLP | {"personal": ["*bias"], "buffers": "mix"},
    "centralized": MLP | {"strategy": "centralized"},
    "local": MLP | {"strategy": {"name": "local_sgd", "period": 3}, "buffers": "mix"},
}
MESSAGES = {
    "ring": 1,
    "digraph": 1,
    "two matrices": 1,
    "momentum": 1,
    "tracking": 1,
    "compression": 1,
    "late": 1,
    "personal": 1,
}
"""Messages of a step between two workers."""


def build():
    shared = Shared()
    base = {
        "task": {"name": "logistic", "partition": {"name": "dirichlet", "alpha": 0.5}},
        "strategy": "diffusion",
        "optimizer": {"name": "sgd", "lr": 0.05},
        "batch_size": 2,
        "steps": max(STEPS.values()),
        "replicas": REPLICAS,
        "analysis": [],
        "runtime": {"dtype": "float64", "device": "cpu", "engine": "stacked"},
    }
    setups = {}
    for name, case in CASES.items():
        topology = {"name": "ring", **case.get("topology", {}), "agents": AGENTS}
        setups[name] = build_setup(Config.parse(base | case | {"topology": topology}), shared, trial=False)
    return setups


def dealt(workers):
    """Deal the rows at random, so that workers share replicas in several ways."""
    owner = np.random.default_rng(workers).integers(workers, size=REPLICAS * AGENTS)
    owner[:AGENTS] %= 2  # of the first replica there is nothing on others
    owner[-workers:] = np.arange(workers)
    return owner


def everything(setups, steps, owner, workers, rank):
    """Run all cases on this worker's rows: what is drawn, measured, and sent."""
    sent, started = [], dist.batch_isend_irecv

    def counting(operations):
        sent.extend(operation.peer for operation in operations if operation.op is dist.isend)
        return started(operations)

    dist.batch_isend_irecv = counting
    found = {}
    for name, setup in setups.items():
        worker = Worker(setup, Placement(AGENTS, owner, workers, rank), "stacked")
        channel = worker.block.channel
        worker.advance(steps - 1)
        if name == "late":  # what is under way is asked of others again
            resumed = Worker(setup, Placement(AGENTS, owner, workers, rank), "stacked")
            resumed.block.load_state_dict(worker.state())
            resumed.advance(steps)
        sent.clear()
        worker.advance(steps)
        assert name != "late" or torch.equal(worker.block.x, resumed.block.x)
        counted, crossed = max((sent.count(peer) for peer in sent), default=0), channel.wire_bytes
        drawn = [leaf.clone() for leaf in leaves(worker.block.oracle.batch(steps))]
        rows, diverged = worker.measure()
        assert not diverged and (channel.waiting_seconds > 0) == (channel.wire_bytes > 0)
        found[name] = worker.block.x.clone(), drawn, rows, counted, crossed
    dist.batch_isend_irecv = started
    return found


def part(store, rank):
    """Run all cases as one of several workers."""
    setups = pickle.loads(Path(f"{store}.setups").read_bytes())
    for workers, steps in STEPS.items():
        if rank < workers:
            dist.init_process_group("gloo", init_method=f"file://{store}.{workers}", rank=rank, world_size=workers)
            torch.save(everything(setups, steps, dealt(workers), workers, rank), f"{store}.{workers}.{rank}")
            assert {os.sched_getscheduler(thread) for thread in gloo_threads()} == {os.SCHED_BATCH}
            dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All cases on one worker and on several."""
    setups, store = build(), tmp_path_factory.mktemp("exchange") / "store"
    Path(f"{store}.setups").write_bytes(cloudpickle.dumps(setups))
    processes = Processes(tmp_path_factory.mktemp("said"))
    try:
        for rank in range(max(STEPS)):
            processes.start(part, store, rank)
        one = np.zeros(REPLICAS * AGENTS, dtype=int)
        alone = {steps: everything(setups, steps, one, 1, 0) for steps in set(STEPS.values())}
        statuses, said = processes.end()
        assert not any(statuses), said
    finally:
        processes.kill()
    parts = {n: [torch.load(f"{store}.{n}.{rank}", weights_only=False) for rank in range(n)] for n in STEPS}
    return setups, alone, parts


@pytest.mark.parametrize("workers", STEPS)
def test_agents_dealt_to_workers_compute_what_they_do_in_one(runs, workers):
    _, alone, parts = runs
    order = np.argsort(np.argsort(dealt(workers), kind="stable"))
    for name, (x, drawn, rows, *_) in alone[STEPS[workers]].items():
        mine = [part[name] for part in parts[workers]]
        apart = torch.cat([found[0] for found in mine])[order]
        torch.testing.assert_close(apart, x, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
        for leaf, *pieces in zip(drawn, *(found[1] for found in mine), strict=True):
            assert torch.equal(torch.cat(pieces)[order], leaf), name
        measured = sorted((row for found in mine for row in found[2]), key=lambda row: row["replica"])
        assert [row["communicated_bytes"] for row in measured] == [row["communicated_bytes"] for row in rows], name
        assert measured == [pytest.approx(row, rel=1e-10, abs=1e-10) for row in rows], name


@pytest.mark.parametrize("workers", STEPS)
def test_what_is_combined_in_a_step_is_one_message(runs, workers):
    for name, messages in MESSAGES.items():
        assert max(part[name][3] for part in runs[2][workers]) == messages, name


def test_only_rows_that_others_need_cross_and_sums_only_between_workers_that_share_a_replica(runs):
    setups, alone, parts = runs
    owner, steps = dealt(3), STEPS[3]
    sizes = {name: 8 * found[0].shape[1] for name, found in alone[steps].items()}
    for name, graph in (("ring", nx.cycle_graph(AGENTS)), ("exponential", setups["exponential"].graph)):
        own = owner.reshape(REPLICAS, AGENTS)
        edges = [(r, a, b) for r in range(REPLICAS) for a, b in nx.DiGraph(graph).edges]
        needed = {(own[r, b], r, a) for r, a, b in edges if own[r, a] != own[r, b]}
        for rank, part in enumerate(parts[3]):
            rows = sum(1 for _, r, a in needed if own[r, a] == rank)
            assert part[name][4] == steps * rows * sizes[name], name
    for rank, part in enumerate(parts[3]):
        sharers = [len(set(row)) for row in owner.reshape(REPLICAS, AGENTS) if rank in row]
        assert part["centralized"][4] == steps * sum(2 * (n - 1) * sizes["centralized"] // n for n in sharers)
    assert all(found[4] == 0 for found in alone[steps].values())
