"""Agents that are absent: they keep what they have, the others go on without them, and some come back."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.clock.clock import clock_of
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.faults import AgentFault, Availability, Crashes, LinkLoss, Pauses, Stalls
from basinet.sim.faults.outages import Outages
from tests.sim.faults.test_link_loss import First

K = 5
POINT = {"task": "quadratic", "model": {"name": "point", "start": 2.0}, "topology": {"name": "ring", "agents": K}}
MIXED = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "optimizer_state": "mix"}


@dataclass(frozen=True, kw_only=True)
class Away(AgentFault):
    """The last agent is away from a step to another."""

    first: int = 0
    last: int = 1000

    def absences(self, keys):
        absent = torch.zeros(keys.shape, dtype=torch.bool)
        absent[:, -1] = True
        return lambda step: absent & (self.first <= step < self.last)


@pytest.mark.parametrize("topology", ["ring", "complete"])
def test_an_agent_that_is_never_there_is_as_if_it_did_not_exist(topology, make_setup):
    """The others compute what they do on the graph without it, with its weight; the centroid is theirs."""
    keys = POINT | MIXED | {"topology": {"name": topology, "agents": K}}
    faulty = make_setup(**keys, faults=Away(), trial=False)
    plain = make_setup(**keys, trial=False)
    W = plain.weights.toarray()
    W[:-1, :-1] += torch.from_numpy(W[:-1, -1]).diag().numpy()
    W[-1], W[:, -1], W[-1, -1] = 0, 0, 1
    workers = [
        Worker(setup, Placement.split(2, K), "stacked") for setup in (faulty, replace(plain, sequence=(csr_array(W),)))
    ]
    for worker in workers:
        worker.advance(4)
    x, alone = (worker.block.x.view(2, K, -1) for worker in workers)
    torch.testing.assert_close(x[:, :-1], alone[:, :-1], rtol=0, atol=1e-13)
    assert (x[:, -1] == 2).all()
    torch.testing.assert_close(workers[0].block.channel.centroid()[0], x[:, :-1].mean(1), rtol=0, atol=1e-14)
    rows, _ = workers[0].measure()
    each = 4 * 2 * 8 * x.shape[2]  # steps, parameters and momentum
    degree = 2 if topology == "ring" else K - 1
    assert [row["communicated_bytes"] for row in rows] == [(K - 2) * degree * each if degree > 2 else 6 * each] * 2
    assert [row["lost_messages"] for row in rows] == [0, 0]


class Gossip:
    """Only combine."""

    def step(self, block):
        block.combine(block.x)


def test_who_returns_goes_on_from_its_neighbours(make_block):
    keys = POINT | {"topology": {"name": "complete", "agents": K}, "replicas": 1}
    blocks = [make_block(**keys, strategy=Gossip(), faults=Away(last=2, rejoin=r)) for r in ("own", "neighbors")]
    for block in blocks:
        block.x.copy_(torch.arange(float(K))[:, None] ** 2)
        block.advance(2)
        assert (block.x[-1] == 16).all() and (block.attendance.weights[0, -1] == 0)
        torch.testing.assert_close(block.x[:-1].mean(0), torch.full_like(block.x[0], 3.5))
        block.advance(3)
    P = blocks[0].x.shape[1]
    torch.testing.assert_close(blocks[0].x.mean(0), torch.full((P,), 6.0, dtype=torch.float64))
    torch.testing.assert_close(blocks[1].x, torch.full((K, P), 3.5, dtype=torch.float64), rtol=0, atol=0.2)
    sent = [block.channel.bytes_sent + int(block.channel.bytes_beside[0]) for block in blocks]
    assert sent[0] == 8 * P * (2 * 4 * 3 + 5 * 4) and sent[1] - sent[0] == 8 * P * 4


@pytest.mark.parametrize("keys", [{"optimizer_state": "mix"}, {"strategy": "gradient_tracking"}])
def test_absent_agents_keep_all_they_have(keys, make_block):
    """Parameters, running statistics, the optimizer's state, and what the strategy remembers."""
    model = {"name": "mlp", "hidden": [4], "norm": "batch"}
    block = make_block(
        model=model,
        topology={"name": "ring", "agents": K},
        optimizer={"name": "adam", "lr": 0.1},
        faults=Away(first=1, last=3),
        **keys,
    )

    def held():
        every = [block.x, *block.state.buffers.values(), *block.memory.values(), *block.optimizer.rows()]
        return [tensor[[K - 1, 2 * K - 1]].clone() for tensor in every]

    block.advance(1)
    before = held()
    block.advance(3)
    after = held()
    assert all(map(torch.equal, before, after)) and len(after) > 5
    block.advance(4)
    assert not any(map(torch.equal, before[:1], held()[:1]))


def test_who_is_welcomed_and_what_it_hears():
    """Who was away, unless the run begins; what another fault loses is not heard, and each fault counts."""
    edges = {"graph": [csr_array(np.ones((K, K)))]}
    begins = Outages([Away(first=-1, last=0, rejoin="neighbors")], edges, agents=K)
    assert begins.welcomed(0) is None and begins.at("graph", 0) is None
    faults = [Away(last=2, rejoin="neighbors"), First(symmetric=False), LinkLoss(probability=0.0)]
    outages = Outages(faults, edges, agents=K)
    assert outages.welcomed(1) is None and outages.welcomed(2).tolist() == [[False] * (K - 1) + [True]]
    assert outages.messages_to(outages.welcomed(2), "graph", 2) == [K - 1]
    assert outages.messages_to(~outages.welcomed(2), "graph", 2) == [(K - 1) ** 2 - 1]
    assert outages.at("graph", 2).lost.sum() == 1


@pytest.mark.parametrize("strategy", ["gradient_tracking", "exact_diffusion", "push_sum"])
def test_sums_over_the_agents_are_kept(strategy, make_block):
    """Of trackers, that of gradients; of corrections, zero; of push-sum's mass, the number of agents."""
    faults = [{"name": "crashes", "probability": 0.2, "spell": 3.0}]
    block = make_block(**POINT, strategy=strategy, faults=faults)
    away = 0
    for step in range(1, 13):
        block.advance(step)
        away += int(block.channel.links.outages.absent(step - 1).sum())
        memory = {name: t.view(2, K, -1).sum(1) for name, t in block.memory.items()}
        if strategy == "gradient_tracking":
            torch.testing.assert_close(memory["tracker"], memory["tracked"], rtol=0, atol=1e-12)
        else:
            total = memory["mass"] - K if strategy == "push_sum" else memory["correction"]
            assert total.abs().max() < 1e-12
    assert 10 < away < 80


def test_crashes_at_random():
    keys = torch.arange(20000).view(1, -1)
    absent = Crashes(probability=0.05, spell=10.0).absences(keys)
    assert float(absent(7).double().mean()) == pytest.approx(1 / 3, abs=4.5 * (2 / 9 / 20000) ** 0.5)
    left = (~absent(7) & absent(8)).sum() / (~absent(7)).sum()
    assert float(left) == pytest.approx(0.05, abs=4.5 * (0.05 / 13000) ** 0.5)
    gone = Crashes(probability=0.05).absences(keys)
    for step in (0, 1, 20):
        alive = 0.95 ** (step + 1)
        assert float((~gone(step)).double().mean()) == pytest.approx(
            alive, abs=4.5 * (alive * (1 - alive) / 2e4) ** 0.5
        )
    assert not (gone(3) & ~gone(9)).any()
    assert not Crashes(probability=0.0).absences(keys)(10**9).any() and Crashes(probability=1.0).absences(keys)(0).all()


def test_a_resumed_run_goes_on_with_bursts_and_absences(make_setup, tmp_path):
    (tmp_path / "up.csv").write_text("1,1,1,1,1\n1,0,1,1,1\n1,0,1,0,1\n")
    faults = [
        {"name": "availability", "path": str(tmp_path / "up.csv"), "rejoin": "neighbors"},
        {"name": "bursts", "loss": 0.3, "burst": 4.0, "symmetric": False},
    ]
    setup = make_setup(**POINT, **MIXED, faults=faults, trial=False)
    whole, resumed = (Worker(setup, Placement.split(2, K), "stacked") for _ in range(2))
    whole.advance(5)
    resumed.load(whole.state())
    assert torch.equal(resumed.block.channel.centroid()[0], whole.block.channel.centroid()[0])
    for worker in (whole, resumed):
        worker.advance(11)
    assert torch.equal(whole.block.x, resumed.block.x)
    assert whole.measure() == resumed.measure()
    assert not Availability(path=str(tmp_path / "up.csv")).absences(torch.zeros(1, K))(3).any()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"strategy": "local_sgd"}, "^faults: crashes .* but local_sgd averages over all agents; allowed"),
        ({"faults": {"name": "crashes", "probability": 0.5, "spell": 1.5}}, "^faults: .*at least 1 / .1 − probability"),
        (
            {"strategy": "push_sum", "faults": {"name": "crashes", "probability": 0.5, "rejoin": "neighbors"}},
            "^faults: crashes .* but push_sum needs rejoin: own to keep the agents' sum$",
        ),
        ({"faults": {"name": "availability", "path": "nowhere.csv"}}, "^faults: .*nowhere.csv"),
        (
            {"faults": {"name": "pauses", "agents": [5], "at": 3}},
            "^faults: agents: got 5; allowed are the numbers of agents, 0 to 4$",
        ),
        (
            {"faults": {"name": "pauses", "agents": [1], "at": 3, "steps": 4, "every": 4}},
            "^faults: .*every: got 4; more",
        ),
        (
            {"faults": {"name": "stalls", "agents": [0], "at": 3, "time": "2 s"}},
            "^faults: stalls make .*; give compute",
        ),
        (
            {"faults": {"name": "stalls", "agents": [5], "at": 0, "time": "2 s"}, "compute": "measured"},
            "^faults: agents: got 5; allowed",
        ),
        (
            {"faults": {"name": "stalls", "agents": [0], "at": 0, "time": "2"}},
            "^faults.time: got '2'; a time needs a number and a unit",
        ),
        ({"steps": None, "bytes": 1000}, "^bytes: agents that are absent send nothing"),
    ],
)
def test_mistakes_are_one_sentence(keys, sentence, make_setup):
    given = POINT | {"faults": {"name": "crashes", "probability": 0.1}, "trial": False} | keys
    with pytest.raises(ExperimentError, match=sentence):
        make_setup(**given)


def test_absent_agents_take_no_time(make_setup):
    """While an agent is away that takes 40 ms instead of 10, steps are shorter; it returns with the others' step."""
    keys = POINT | {"replicas": 1, "network": {"name": "uniform", "latency": "5 ms"}}
    compute = {"name": "constant", "mean": "10 ms", "factors": [1, 1, 1, 1, 4]}
    setup = make_setup(**keys, compute=compute, faults=Away(first=2, last=6), trial=False)
    worker, times = Worker(setup, Placement.split(1, K), "stacked"), []
    for step in range(1, 9):
        worker.advance(step)
        times.append(round(1e3 * worker.measure()[0][0]["simulated_time"]))
    # Its neighbours, which are last, get its message 5 ms after it; they send at 140 ms when it is away last.
    assert times == [45, 85, 100, 115, 130, 145, 140 + 45, 180 + 45]


def test_a_stall_makes_others_as_late_one_edge_a_step(make_setup):
    """Agent 1 of a path stalls for 25 ms in its fourth step, and again in its eighth, where 10 ms are usual."""
    keys = POINT | {"topology": {"name": "path", "agents": 7}, "compute": {"name": "constant", "mean": "10 ms"}}
    stall = {"name": "stalls", "agents": [1], "at": 3, "time": "25 ms", "every": 8}
    clock = clock_of(make_setup(**keys, replicas=2, faults=stall, trial=False))
    for step in range(1, 16):
        clock.advance(step)
        late = [25 * sum(step - n >= max(abs(k - 1), 1) for n in (3, 11)) for k in range(7)]
        assert (clock.times // 10**6 == [[10 * step + more for more in late]] * 2).all()
    longer = Stalls(agents=(2,), at=5, time="3 us", every=2).added(torch.zeros(1, 4, dtype=torch.int64))
    assert [longer(step).tolist()[0] for step in range(8)] == [[0, 0, 3000 * (n in (5, 7)), 0] for n in range(8)]
    once = Stalls(agents=(2,), at=5, time="3 us").added(torch.zeros(1, 4, dtype=torch.int64))
    assert [bool(once(step).any()) for step in range(8)] == [n == 5 for n in range(8)]
    setup = make_setup(**keys, replicas=2, strategy="wait_free", faults=stall, trial=False)
    worker = Worker(setup, Placement.split(2, 7), "stacked")
    worker.advance(4)  # the others do not wait, but finish their fourth gradients, and then some of their fifth
    assert worker.measure()[0][0]["simulated_time"] == 0.05
    assert [done for done in worker.block.events.clock.passes[0].finished] == [5, 3, 5, 5, 5, 5, 5]


def test_all_agents_may_be_absent(make_block):
    block = make_block(**POINT, faults=Crashes(probability=1.0))
    assert isinstance(block, Block)
    block.advance(2)
    assert (block.x == 2).all() and block.channel.centroid()[0].isfinite().all()


def test_pauses_are_where_they_are_asked_for(make_block):
    keys = torch.zeros(2, K, dtype=torch.int64)

    def steps(**asked):
        absent = Pauses(**asked).absences(keys)
        found = torch.stack([absent(step) for step in range(9)])
        assert torch.equal(found[:, 0], found[:, 1]) and not found[:, :, [0, 2, 4]].any()
        assert torch.equal(found[:, 0, 1], found[:, 0, 3])
        return found[:, 0, 1].nonzero()[:, 0].tolist()

    assert steps(agents=(3, 1), at=2, steps=3) == [2, 3, 4]
    assert steps(agents=(3, 1), at=6) == [6, 7, 8] and steps(agents=(1, 3), at=0, steps=1) == [0]
    assert steps(agents=(3, 1), at=1, steps=2, every=4) == [1, 2, 5, 6]
    block = make_block(**POINT, faults={"name": "pauses", "agents": [1], "at": 1, "steps": 2})
    block.advance(1)
    before = block.x.view(2, K, -1).clone()
    block.advance(3)
    now = block.x.view(2, K, -1)
    assert torch.equal(now[:, 1], before[:, 1]) and (now[:, 0] != before[:, 0]).any()
    block.advance(4)
    assert (now[:, 1] != before[:, 1]).all()
