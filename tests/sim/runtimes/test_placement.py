"""Every strategy with every kind of optimizer gives the same numbers in one process and in two, or a refusal."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ray import cloudpickle
from torch.utils.data import Dataset

from basinet.algorithms.optimizers import OPTIMIZERS, OptimizerTraits
from basinet.algorithms.strategies import STRATEGIES, StrategyTraits
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared
from basinet.sim.tasks import supervised
from tests.stepped import STEPPED
from tests.structures import STRUCTURES

SETTINGS = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "adam": {"lr": 0.01, "groups": [{"match": "*.bias", "lr": 0.02}]},
    "adamw": {"lr": 0.01},
    "galore": {"rank": 2, "period": 3},
    "golore": {"rank": 2, "period": 3, "momentum": 0.5, "shared": True, "groups": [{"match": "*.bias", "lr": 0.02}]},
    "lozo": {"lr": 0.01, "eps": 0.1, "period": 3, "shared": True},
    "lozo_m": {"lr": 0.01, "eps": 0.1, "period": 3, "shared": True},
    "mezo": {"lr": 0.01, "eps": 0.1},
}
SCHEDULES = ["constant", "cosine", {"name": "step", "milestones": [0.5]}]
KINDS = (
    ("sgd", "adam", "adamw", "clipped_sgd", "nsgd", "nsgdc", "nsgdm"),
    ("a_nsgdc", "nsgdc_vr"),  # which evaluate at points of their own
    ("galore", "golore"),
    ("lozo", "lozo_m", "mezo"),
)
"""Optimizers by what a strategy has to do for them: it runs with one of each kind, and each runs with several."""

GRADIENT_FREE = KINDS[-1]

STEPS = 7
"""What happens every third step happens twice, and one more step follows."""

ROUNDED = {"galore": "rounding decides among singular values that are equal"}
"""Optimizers that are not compared."""

LOOSE = {"powergossip": 1e-8}
"""Power iterations on small differences let a change in the last digit grow to 1e-10 in 20 steps."""

SPECIAL = {name: {"name": name, "compressor": "quantize"} for name in ("beer", "choco", "deepsqueeze")}
"""Strategies with settings: rounding would decide among numbers that are equal in top_k, long periods take long."""
SPECIAL |= {name: {"name": name, "period": 3} for name in ("gossip_pga", "gt_sarah", "k_gt", "local_sgd", "slowmo")}

TOPOLOGIES = {
    "push_sum": {"name": "exponential", "policy": "push"},
    "push_diging": {"name": "exponential", "policy": "push"},
    "push_pull": {"name": "exponential", "policy": "uniform"},
    "relay": {"name": "tree"},
}

ATTACKED = {
    f"{strategy} {attack}": (strategy, {"name": attack, "share": 0.4})
    for strategy, attack in (
        ("diffusion", "gaussian"),
        ("gradient_tracking", "alie"),
        ("relay", "gaussian"),
        ("push_pull", "sign_flip"),
        ("consensus", "label_flip"),
        *(
            ({"name": "robust", **settings}, attack)
            for settings, attack in (
                ({"rule": "median"}, "gaussian"),
                ({"rule": "trimmed_mean"}, "alie"),
                ({"rule": "krum", "tolerated": 0}, "dissensus"),
                ({"rule": "multi_krum", "tolerated": 0}, "gaussian"),
                ({"rule": "geometric_median", "tolerated": 0.3}, "sign_flip"),
                ({"rule": "centered_clipping", "radius": 0.5}, "gaussian"),
                ({"rule": "self_centered_clipping"}, "dissensus"),
                ({"rule": "ios"}, "gaussian"),
            )
        ),
    )
}


PARTLY_TRAINED = {
    "diffusion lora": {"adapters": {"name": "lora", "rank": 2, "dropout": 0.2}, "trained": ["*.bias"]},
    "gradient_tracking frozen": {"frozen": ["*.bias"]},
}


class Squares(Dataset):
    """Items that draw from a global generator."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return index % 7 + torch.rand(3), index % 2


def shifted(item, rng):
    return item[0] + float(rng.normal()), item[1]


def build():
    """Build all pairs, or find why they are refused: five agents and three replicas, so that a replica is split."""
    setups, refused, shared = {}, {}, Shared()
    pairs = [
        (f"{strategy} {optimizer}", strategy, optimizer, SCHEDULES[(i + j) % len(SCHEDULES)], "none")
        for i, strategy in enumerate(STEPPED)
        for j, optimizer in enumerate(kind[i % len(kind)] for kind in KINDS)
    ]
    attacked = [(name, strategy, "sgd", "constant", attack) for name, (strategy, attack) in ATTACKED.items()]
    partly = [(name, name.partition(" ")[0], "sgd", "constant", "none") for name in PARTLY_TRAINED]
    for name, strategy, optimizer, schedule, attack in pairs + attacked + partly:
        mixes = optimizer == "adam" and StrategyTraits.of(STRATEGIES[str(strategy)]()).combines_x
        config = {
            "task": "digits",
            "model": "softmax",
            "topology": {"agents": 5, **TOPOLOGIES.get(str(strategy), {"name": "wheel", "policy": "lazy"})},
            "strategy": SPECIAL.get(str(strategy), strategy),
            "attack": attack,
            "optimizer": {"name": optimizer, "lr": 0.05, **SETTINGS.get(optimizer, {})},
            "schedule": schedule,
            "optimizer_state": "mix" if mixes else "keep",
            "batch_size": 4,
            "steps": STEPS,
            "replicas": 3,
            "runtime": {"dtype": "float64", "engine": "stacked"},
        }
        if name in PARTLY_TRAINED:
            config |= PARTLY_TRAINED[name] | {"runtime": {"dtype": "float64", "engine": "vectorized"}}
        traits = StrategyTraits.of(STRATEGIES[str(strategy)]()) if isinstance(strategy, str) else None
        # Only a trial finds what makes no sense.
        doubtful = optimizer in GRADIENT_FREE or (traits and (traits.shares_subspaces or traits.own_points))
        try:
            setups[name] = build_setup(Config.parse(config), shared, trial=bool(doubtful))
        except ExperimentError as error:
            refused[name] = str(error)
    read = supervised(Squares(), lazy=True, transform=shifted, num_outputs=2)
    for name, (task, model) in {**STRUCTURES, "read when needed": (read, "softmax")}.items():
        config |= {"task": task, "model": model, "strategy": "diffusion", "topology": {"name": "ring", "agents": 5}}
        config |= {"runtime": {"dtype": "float64", "engine": "loop"}, "optimizer": {"name": "sgd", "lr": 0.1}}
        setups[name] = build_setup(Config.parse(config | {"attack": "none", "sampling": "epochs"}), shared)
    return setups, refused


def everything(setups, workers, rank):
    """Run all pairs on this worker's rows."""
    found = {}
    for name, setup in setups.items():
        placement = Placement(5, np.arange(15) % workers, workers, rank)  # every replica is split, agent by agent
        block = Block(setup, placement, torch.device("cpu"), setup.config.runtime.engine)
        block.advance(STEPS)
        found[name] = block.x.clone(), block.channel.bytes_sent
    return found


def part(store, rank):
    """Run all pairs on one of two workers' rows."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    setups = pickle.loads(Path(f"{store}.setups").read_bytes())
    torch.save(everything(setups, 2, rank), f"{store}.{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path, processes):
    assert sorted(name for kind in KINDS for name in kind) == sorted(OPTIMIZERS)
    setups, refused = build()
    store = tmp_path / "store"
    Path(f"{store}.setups").write_bytes(cloudpickle.dumps(setups))
    for rank in range(2):
        processes.start(part, store, rank)
    whole = everything(setups, 1, 0)
    statuses, said = processes.end()
    assert statuses == [0, 0], said
    parts = [torch.load(f"{store}.{rank}") for rank in range(2)]
    for name, (x, sent) in whole.items():
        apart = torch.cat([part[name][0] for part in parts])[np.arange(15) % 2 * 8 + np.arange(15) // 2]
        assert torch.isfinite(x).all() and parts[0][name][1] == sent, name
        strategy, _, optimizer = name.partition(" ")
        if optimizer not in ROUNDED:
            atol = LOOSE.get(strategy, 1e-10)
            torch.testing.assert_close(apart, x, rtol=1e-9, atol=atol, msg=lambda text, name=name: f"{name}: {text}")
    # What makes no sense is refused with the reason: no subspace in common, no gradient to compute with, two that
    # evaluate at points of their own.
    for name, sentence in refused.items():
        strategy, optimizer = name.rsplit(" ", 1)
        traits = StrategyTraits.of(STRATEGIES[strategy]())
        assert sentence.startswith(("strategy: ", "optimizer: ")), name
        assert (
            optimizer in GRADIENT_FREE
            or traits.shares_subspaces
            or (traits.own_points and OptimizerTraits.of(OPTIMIZERS[optimizer]).evaluates)
        ), name
