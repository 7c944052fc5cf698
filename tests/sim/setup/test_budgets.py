"""Budgets of samples and bytes: the step that reaches them is a run's last."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.agents.messages.edges import KINDS_OF_EDGES
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared
from basinet.sim.setup.spending import steps_by_bytes

BASE = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": []},
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "replicas": 1,
    "batch_size": 3,
}
BUDGET = 200_000
ROW = 650 * 4
"""Bytes of the parameters."""


@pytest.fixture(scope="module")
def shared():
    return Shared()


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"samples": 1200}, 100),
        ({"samples": 1201}, 101),
        ({"samples": 1}, 1),
        ({"samples": 1.2e3}, 100),
        ({"samples": 1200, "batch_size": 6}, 50),
        ({"samples": 1200, "topology": {"name": "ring", "agents": 8}}, 50),
        ({"bytes": 80 * ROW}, 10),  # two neighbours hear each of four agents
        ({"bytes": 80 * ROW + 1}, 11),
        ({"bytes": 80 * ROW, "strategy": "centralized"}, 10),  # each agent sends to the server, and back
        ({"bytes": 80 * ROW, "strategy": {"name": "local_sgd", "period": 40}}, 400),
        ({"bytes": 81 * ROW, "evaluate_every": 100}, 11),
    ],
)
def test_budgets_by_hand(change, steps, shared):
    setup = build_setup(Config.parse(BASE | change), shared)
    assert setup.num_steps == steps
    assert setup.evaluate_every == min(change.get("evaluate_every", -(-steps // 10)), steps)
    assert build_setup(Config.parse(BASE | change), trial=False).num_steps == steps


@pytest.mark.parametrize(
    "change",
    [
        {"strategy": {"name": "local_sgd", "period": 7}},
        {"strategy": {"name": "gossip_pga", "period": 5}},
        {"strategy": "powergossip"},
        {"strategy": "choco"},
        {"strategy": "gradient_tracking"},
        {"strategy": "asynchronous"},
        {"strategy": "push_pull", "topology": {"name": "ring", "agents": 5}},
        {"strategy": "relay", "topology": {"name": "path", "agents": 4}},
        {"strategy": {"name": "local_sgd", "period": 3}, "topology": {"name": "one_peer_exponential", "agents": 16}},
        {"topology": {"name": "one_peer_exponential", "agents": 8}},
        {
            "strategy": {"name": "subspace_diffusion", "average": True},
            "optimizer": {"name": "golore", "lr": 0.1, "rank": 2, "period": 20, "shared": True},
        },
        {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "optimizer_state": "mix"},
        {"personal": ["*.bias"]},
    ],
    ids=str,
)
def test_the_last_step_uses_up_the_bytes(change, shared):
    setup = build_setup(Config.parse(BASE | {"bytes": BUDGET} | change), shared, trial=False)
    with InlineTeam(setup, "loop") as team:
        channel = team.worker.block.channel
        team.advance(setup.num_steps - 1)
        before = channel.bytes_sent
        team.advance(setup.num_steps)
        assert before < BUDGET <= channel.bytes_sent


@pytest.mark.parametrize("seed", range(30))
def test_the_last_step_is_that_of_a_count_step_by_step(seed, shared):
    rng = np.random.default_rng(seed)
    cycle, budget = int(rng.integers(1, 6)), int(rng.integers(1, 20_000))
    rows = [{kind: int(rng.integers(9) * rng.integers(2)) for kind in KINDS_OF_EDGES} for _ in range(2 * cycle)]
    rows[-1]["server"] += 1
    graphs = [csr_array(np.eye(4) + (rng.random((4, 4)) < share)) for share in rng.random(rng.integers(1, 4))]
    setup = replace(build_setup(Config.parse(BASE | {"bytes": BUDGET}), shared), sequence=tuple(graphs), push=())
    setup = replace(setup, config=setup.config.model_copy(update={"bytes": budget}))
    edges = [np.count_nonzero(graph.toarray() - np.diag(graph.diagonal())) for graph in graphs]
    left, step = budget, 0
    while left > 0:
        row = rows[step] if step < cycle else rows[cycle + step % cycle]
        left -= row["graph"] * edges[step % len(edges)] + row["server"] * 8
        step += 1
    assert steps_by_bytes(setup, rows, cycle) == step


class Irregular:
    """Sends more and more."""

    traits = StrategyTraits(combines_x=False)

    def step(self, block):
        block.adapt(block.gradients())
        block.combine(block.x.clone(), sent=block.step)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"strategy": "isolated"},
            "bytes: isolated sends nothing here, so that a number of bytes does not end the run",
        ),
        (
            {"strategy": {"name": "gossip_pga", "period": 1001}},  # what is sent once in a period is not seen
            "what gossip_pga sends does not repeat within 3000 steps",
        ),
        ({"strategy": Irregular}, "sends does not repeat within 12 steps, so that the end of the run is not known"),
        ({"optimizer": {"name": "sgd", "lr": 0.1, "momentum": -1}}, "optimizer"),  # said as without a budget
        ({"steps": 3}, "give steps or bytes, not both"),
    ],
)
def test_a_mistake_is_one_sentence(change, sentence, shared):
    with pytest.raises(ExperimentError, match=re.escape(sentence)):
        build_setup(Config.parse(BASE | {"bytes": BUDGET} | change), shared)
