"""Simulated time of runs: what evaluations record, and what is refused."""

import networkx as nx
import numpy as np
import pytest

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.clock.compute_times import ComputeTimes
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.run.execution.twins import groups

SLOW = {"name": "uniform", "latency": "5 ms", "bandwidth": "1 MB/s"}
RANDOM = {"name": "lognormal", "mean": "20 ms"}
TIMES = {"simulated_time", "compute_share", "communication_share", "idle_share"}
POINT = {"task": "quadratic", "model": {"name": "point", "start": 2.0}}


def attributed():
    """A path of three agents, whose edges say what messages take."""
    graph = nx.path_graph(3)
    nx.set_edge_attributes(graph, "3 ms", "latency")
    return graph


def measured(setup, *steps):
    worker = Worker(setup, Placement.split(setup.config.replicas, setup.num_agents), "stacked")
    found = []
    for step in steps:
        worker.advance(step)
        found.append([row.get("simulated_time") for row in worker.measure()[0]])
    return found


def test_evaluations_say_when_all_agents_have_got_there(make_setup):
    """Diffusion on equal agents: each step is a gradient and a message of P numbers of 8 bytes."""
    setup = make_setup(network=SLOW, compute={"name": "constant", "mean": "20 ms"}, trial=False)
    size = 8 * setup.num_parameters
    each = 20e-3 + 5e-3 + size / 1e6
    assert measured(setup, 0, 1, 7) == [pytest.approx([n * each] * 2, rel=1e-12) for n in (0, 1, 7)]


def test_a_run_may_do_one_thing_after_the_other(make_setup):
    keys = {"strategy": "consensus", "compute": {"name": "constant", "mean": "20 ms"}, "trial": False}
    sent = 5e-3 + 8e-6
    for overlap, each in ((True, 20e-3), (False, 20e-3 + sent)):
        setup = make_setup(**POINT, **keys, network=SLOW | {"overlap": overlap})
        assert measured(setup, 3)[0] == pytest.approx([3 * each] * 2, rel=1e-3)


def test_times_do_not_depend_on_when_they_are_asked_for(make_setup):
    """As in a run that is resumed, whose clock starts anew."""
    setup = make_setup(**POINT, network=SLOW, compute=RANDOM, trial=False)
    often, once = measured(setup, 1, 4, 9), measured(setup, 9)
    assert often[-1] == once[0]
    assert once[0][0] != once[0][1]  # replicas draw their own times
    assert measured(make_setup(**POINT, trial=False), 9)[0] == [None] * 2


def test_evaluations_say_what_the_time_was_spent_on(make_setup):
    setup = make_setup(**POINT, network=SLOW, compute={"name": "constant", "mean": "20 ms"}, trial=False)
    worker = Worker(setup, Placement.split(2, 4), "stacked")
    assert not {"compute_share", "idle_share"} & worker.measure()[0][0].keys()  # no time has passed
    worker.advance(3)
    row = worker.measure()[0][1]
    computed, sent = 3 * 20e-3, 2 * (5e-3 + 8e-6 * setup.num_parameters)  # up to the last gradient
    assert row["compute_share"] == pytest.approx(computed / (computed + sent), rel=1e-12)
    assert row["communication_share"] == pytest.approx(sent / (computed + sent), rel=1e-12)
    assert str(row["idle_share"]) == "0.0"  # not minus a rounding error


def test_the_content_of_a_trace_belongs_to_the_experiment(tmp_path, make_setup):
    path = tmp_path / "times.csv"
    path.write_text("0.1,0.2,0.1,0.2\n")
    config = make_setup(**POINT, compute={"name": "trace", "path": str(path)}, trial=False).config
    recorded = config.describe()
    assert Config.parse(recorded).describe() == recorded
    path.write_text("0.1,0.2,0.1,0.3\n")
    with pytest.raises(ExperimentError, match=r"^compute: trace has changed since the run was begun: its content"):
        Config.parse(recorded)


def test_runs_on_other_graphs_of_a_network_are_not_taken_over(make_setup):
    """Their sums over all agents take other times, though the graph has no other part in them."""
    keys = {**POINT, "strategy": "centralized", "trial": False}
    graphs = [{"name": name, "agents": 4} for name in ("ring", "complete")]
    for network, expected in ((None, 1), (SLOW, 2)):
        setups = {graph["name"]: make_setup(**keys, topology=graph, network=network) for graph in graphs}
        assert len(groups(setups)) == expected


def test_idle_agents_neither_compute_nor_exchange_messages(make_setup):
    """S_k ← S_k + C_k, then the latest message, of full size, of active neighbours; idle ones are as late."""
    keys = {**POINT, "network": SLOW, "compute": RANDOM, "trial": False}
    setup = make_setup(**keys, strategy={"name": "asynchronous", "activity": 0.5})
    size = 8 * setup.num_parameters
    worker = Worker(setup, Placement.split(2, 4), "stacked")
    s, compute = np.zeros((2, 4), dtype=int), ComputeTimes(setup.compute, agents=4, replicas=2)
    moved = []
    for step in range(6):
        before = worker.block.x.detach().clone()
        worker.advance(step + 1)
        active = (worker.block.x != before).any(1).numpy().reshape(2, 4)  # others keep their parameters
        moved.append(active.mean())
        left = s + active * compute(step)
        s = left.copy()
        for k in range(4):
            for neighbour in ((k - 1) % 4, (k + 1) % 4):
                arrived = left[:, neighbour] + active[:, k] * (5_000_000 + 1_000 * size)
                s[:, k] = np.where(active[:, neighbour], np.maximum(s[:, k], arrived), s[:, k])
        assert [row["simulated_time"] for row in worker.measure()[0]] == (s.max(1) / 1e9).tolist()
    assert 0 < np.mean(moved) < 1
    always, diffusion = (
        make_setup(**keys, strategy=strategy) for strategy in ({"name": "asynchronous", "activity": 1}, "diffusion")
    )
    assert measured(always, 5) == measured(diffusion, 5)


def test_graphs_that_alternate_need_the_links_that_they_use(make_setup):
    graphs = {"name": "one_peer_exponential", "agents": 8}
    setup = make_setup(
        **POINT, topology=graphs, network=SLOW, compute={"name": "constant", "mean": "20 ms"}, trial=False
    )
    assert len(setup.network.senders) == 8 * 3
    assert measured(setup, 4)[0] == pytest.approx([4 * (25e-3 + 8e-6 * setup.num_parameters)] * 2, rel=1e-12)


def test_times_do_not_change_the_training(make_setup):
    plain, timed = (make_setup(**POINT, trial=True, **keys) for keys in ({}, {"network": SLOW, "compute": RANDOM}))
    rows = []
    for setup in (plain, timed):
        worker = Worker(setup, Placement.split(2, 4), "stacked")
        worker.advance(5)
        rows.append(worker.measure()[0])
    assert rows[1][0].keys() >= TIMES
    assert rows[0] == [{key: row[key] for key in row if key not in TIMES} for row in rows[1]]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"strategy": "centralized", "topology": {"name": "path", "agents": 4}, "network": SLOW},
            "^network: agent 3 sends to agent 0, but the network has no link from 3 to 0, over which the sum"
            r" over all agents passes; a network of all pairs \(complete: true\) has one$",
        ),
        (  # the edges of the graph cannot be all pairs
            {"strategy": "centralized", "topology": attributed, "network": "edges"},
            "^network: agent 2 sends to agent 0, .* over which the sum over all agents passes$",
        ),
        (
            {"strategy": "centralized", "network": SLOW | {"all_reduce": {"name": "server", "agent": 4}}},
            "^network.all_reduce: server: there is no agent 4, but agents 0 to 3$",
        ),
        ({"network": SLOW | {"all_reduce": "treee"}}, r"^network.all_reduce: .*'treee'.*did you mean 'tree'"),
        ({"network": SLOW | {"overlap": "perhaps"}}, "^network.overlap: got 'perhaps'"),
        (
            {"compute": {"name": "constant", "mean": "20 ms", "factors": [1, 1, 4]}},
            "^compute: factors: got 3 for 4 agents; their number must divide that of agents$",
        ),
        ({"compute": "constant"}, "^compute"),
        ({"network": {"name": "uniform", "latency": "5"}}, "^network.*5"),
        ({"network": "ether"}, "^network: .*ether"),
    ],
)
def test_mistakes_are_one_sentence(keys, sentence, make_setup):
    with pytest.raises(ExperimentError, match=sentence):
        make_setup(**POINT, **{"trial": False} | keys)
