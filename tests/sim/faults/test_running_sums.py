"""Running sums: what push-sum sends is never lost, only late."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.setup.room import agent_bytes, state_bytes

K = 6
KEYS = {
    "task": "quadratic",
    "model": {"name": "point", "start": 2.0},
    "topology": {"name": "exponential", "agents": K, "policy": "push"},
    "faults": {"name": "link_loss", "probability": 0.3, "symmetric": False},
}


@dataclass(frozen=True)
class PushOnly:
    """Push-sum without gradients."""

    traits: ClassVar[StrategyTraits] = StrategyTraits(weights="columns", combines_x=False, mixes_all=True)

    def step(self, block):
        v = block.memory.setdefault("mass", block.x.new_ones(len(block.x), 1))
        u = block.x * v
        with block.together():
            block.combine(u)
            block.combine(v, truly=True)
        block.x.copy_(u / v)


def total(block, message, rows):
    """Sum over the agents of each replica, and over what is under way to them."""
    late = block.channel.disturbances.running_sums.late.get(message)
    weights = block.channel.links.all_neighbors("graph", 0).weights
    under_way = 0 if late is None else (weights[:, :, None] * late).sum(1)
    return (rows + under_way).view(2, K, -1).sum(1)


def test_nothing_is_lost_and_the_limit_is_the_mean(make_block):
    block = make_block(**KEYS, strategy=PushOnly())
    block.x.copy_(torch.arange(2.0 * K)[:, None] ** 2)
    mean = block.x.view(2, K, -1).mean(1)
    under_way = 0
    for step in range(1, 121):
        block.advance(step)
        v = block.memory["mass"]
        torch.testing.assert_close(total(block, "graph 1", v), torch.full_like(mean[:, :1], K), rtol=0, atol=1e-13)
        torch.testing.assert_close(total(block, "graph 0", block.x * v), K * mean, rtol=1e-13, atol=0)
        under_way += int(abs(v.view(2, K).sum(1) - K).max() > 0.1)
    assert under_way > 60
    torch.testing.assert_close(block.x.view(2, K, -1), mean[:, None].expand(2, K, -1), rtol=1e-10, atol=0)


def test_trackers_keep_their_sum(make_block):
    """In push–pull, whose weights sum to one in both ways."""
    topology = {"name": "exponential", "agents": K, "policy": "uniform"}
    block = make_block(**KEYS | {"topology": topology}, strategy="push_pull")
    for step in range(1, 8):
        block.advance(step)
        late = block.channel.disturbances.running_sums.late["reverse 0"]
        weights = block.channel.links.all_neighbors("reverse", 0).weights
        trackers = block.memory["tracker"] + (weights[:, :, None] * late).sum(1)
        found, expected = (t.view(2, K, -1).sum(1) for t in (trackers, block.memory["tracked"]))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_what_is_under_way_is_in_checkpoints(make_setup):
    setup = make_setup(**KEYS, strategy="push_diging", trial=False)
    whole, resumed = (Worker(setup, Placement.split(2, K), "stacked") for _ in range(2))
    whole.advance(4)
    assert whole.block.channel.disturbances.running_sums.late.keys() == {"graph 0", "graph 1", "graph 2"}
    resumed.load(whole.state())
    for worker in (whole, resumed):
        worker.advance(9)
    assert torch.equal(whole.block.x, resumed.block.x)


@pytest.mark.parametrize(
    ("strategy", "faults", "rows"),
    [
        ("push_sum", KEYS["faults"], 4),  # agents k ± 1 and k ± 2 of six
        ("push_pull", KEYS["faults"], 4),
        ("diffusion", KEYS["faults"], 0),
        ("push_sum", {"name": "link_noise", "size": 1.0}, 0),
        ("diffusion", [{"name": "link_delay", "steps": 2, "least": 0}, {"name": "link_delay", "steps": 1}], 4),
    ],
)
def test_what_is_under_way_takes_room(strategy, faults, rows, make_setup):
    """As many rows as are kept, on the device and in checkpoints."""
    policy = "push" if strategy == "push_sum" else "uniform"
    keys = KEYS | {"strategy": strategy, "faults": faults, "topology": KEYS["topology"] | {"policy": policy}}
    setup = make_setup(**keys, trial=False)
    known = agent_bytes(setup)
    row = known["parameters"]
    assert known.get("late messages", 0) == rows * row and state_bytes(setup) == 2 * K * (1 + rows) * row
    if rows:
        worker = Worker(setup, Placement.split(2, K), "stacked")
        worker.advance(6)
        kept = worker.state()["rows"]["late" if strategy != "diffusion" else "late_rows"]
        assert kept["reverse 0" if strategy == "push_pull" else "graph 0"].numel() * 8 == 2 * K * rows * row


def test_a_sequence_of_graphs_is_refused(make_setup):
    topology = {"name": "one_peer_exponential", "agents": 4}
    with pytest.raises(ExperimentError, match=r"^faults: link_loss .* push_sum then needs the same graph"):
        make_setup(**KEYS | {"topology": topology}, strategy="push_sum", trial=False)
