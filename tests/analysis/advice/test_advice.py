"""Advice on networks whose times are known in closed form, or from long simulations."""

from dataclasses import replace
from math import inf

import networkx as nx
import numpy as np
import pytest

from basinet.analysis.advice.advice import advise, what_if
from basinet.analysis.advice.advice_picture import draw_advice
from basinet.analysis.advice.candidates import candidates
from basinet.analysis.advice.question import Question
from basinet.analysis.advice.round_times import Choice, ComputeDraws, round_time
from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.theory.rounds_to_accuracy import Problem, rounds_to_accuracy
from basinet.sim.clock.data_flow import DataFlow, Event, StepFlow
from basinet.sim.clock.laws import Constant, Exponential
from basinet.sim.experiment.component import ExperimentError
from basinet.topologies import metropolis, ring
from basinet.topologies.designs import lone_messages
from basinet.topologies.networks import hierarchy, published, uniform_links
from basinet.topologies.timing.all_reduces import server

RUN = {"task": {"name": "quadratic", "curvature": 1.0, "dimension": 1000}, "steps": 1, "replicas": 1, "analysis": []}
MB, MS = 1_000_000, 1_000_000


def question(network, strategy="diffusion", **keys):
    return Question({**RUN, "strategy": strategy}, network, **{"size": MB} | keys)


def asked(*words, **keys):
    return advise(question(*words, **keys))


def all_pairs(agents, **keys):
    return uniform_links(nx.empty_graph(agents), complete=True, **keys)


PORTS = all_pairs(16, latency="2 ms", access={"up": "1 GB/s", "down": "1 GB/s"})


def by_name(advice):
    return {one.name: one for one in advice.choices}


PROBLEM = Problem(noise=2.0, heterogeneity=0.5, accuracy=0.01)


@pytest.fixture(scope="module")
def constant():
    return asked(PORTS, law=Constant(mean="20 ms"), problem=PROBLEM)


def test_times_are_those_of_the_formulas(constant):
    """C + α + d M / B for diffusion, and the larger of C and the rest for consensus; 1 MB at 1 GB/s are 1 ms."""
    found = by_name(constant)
    degrees = {"ring": 2, "torus": 4, "exponential": 4, "one_peer_exponential": 1, "complete": 15, "fastest_ring": 1}
    for name, degree in degrees.items():
        time = found[name].time
        assert time.step == (20 + 2 + degree) * MS and time.error == 0 and found[name].neighbours == degree
        assert time.parts == {"compute": 20 * MS, "stragglers": 0, "latency": 2 * MS, "bandwidth": degree * MS}
        assert time.bound == "compute"
    # Four rounds of recursive doubling, or eight of halves, quarters, …; a server takes 15 messages, one by one.
    assert found["all_reduce (recursive_doubling)"].time.step == (20 + 4 * 3) * MS
    assert found["server (0)"].time.step == (20 + 2 * (2 + 15)) * MS
    overlapped = by_name(asked(PORTS, "consensus", law=Constant(mean="20 ms")))
    assert overlapped["complete"].time.step == 20 * MS and overlapped["complete"].time.critical == "every agent"
    alone = by_name(asked(PORTS, "consensus", law=Constant(mean="20 ms"), overlap=False))
    assert alone["complete"].time.step == (20 + 2 + 15) * MS


def test_steps_are_those_of_the_theory(constant):
    found = constant
    assert found.by == "accuracy" and by_name(found)["complete"].steps["agreement"] == 1
    need = rounds_to_accuracy("atc", [metropolis(ring(16))], PROBLEM)
    assert by_name(found)["ring"].steps["accuracy"] == need.steps
    assert by_name(found)["one_peer_exponential"].steps["agreement"] == 4
    needs = [one.needs("accuracy") for one in found.choices]
    assert needs == sorted(needs) and needs[0] == found.choices[0].time.step * found.choices[0].steps["accuracy"]
    tracking = asked(PORTS, "gradient_tracking")  # which the theory does not cover, and which sends twice
    assert tracking.by == "agreement" and by_name(tracking)["ring"].needs("accuracy") == inf
    assert by_name(tracking)["ring"].time.step == 2 * (2 + 2) * MS


def test_sums_of_push_sum_agree_as_its_weights_let_them():
    """On a star, whose weights are no others' transposes: those of a hub with 15 leaves."""
    found = by_name(asked(PORTS, "push_sum"))
    leaves = np.arange(16) > 0
    weights = np.zeros((16, 16))  # each divides what it has among itself and its neighbours
    weights[:, 0], weights[leaves, leaves], weights[0, leaves] = 1 / 16, 1 / 2, 1 / 2
    second = np.sort(abs(np.linalg.eigvals(weights)))[-2]
    assert found["fastest_star"].steps["agreement"] == np.ceil(np.log(0.01) / np.log(second))
    assert "accuracy" not in found["fastest_star"].steps


def test_rounds_of_a_step_agree_as_often():
    found = by_name(asked(PORTS, {"name": "diffusion", "rounds": 2}, most_neighbours=2))
    second = np.sort(abs(np.linalg.eigvalsh(metropolis(ring(16)).toarray())))[-2]
    assert found["ring"].steps["agreement"] == np.ceil(np.log(0.01) / np.log(second**2))


def test_agents_that_are_always_slow_are_named():
    """Each third agent takes 40 ms, on average they take 20."""
    network = all_pairs(9, latency="1 ms")
    found = by_name(asked(network, law=Constant(mean="10 ms", factors=(1, 1, 4))))
    assert found["ring"].time.step == 40 * MS and found["ring"].time.critical in ("agent 2", "agent 5", "agent 8")
    assert found["ring"].time.parts == {"compute": 20 * MS, "stragglers": 20 * MS, "latency": 0, "bandwidth": 0}
    assert found["ring"].time.bound in ("compute", "stragglers")


def test_agents_that_are_sometimes_slow_are_waited_for():
    """Against simulations of many more steps, and against the harmonic number of 16 for a barrier."""
    found = by_name(asked(all_pairs(16), law=Exponential(mean="1 ms")))
    barrier = sum(1 / k for k in range(1, 17))
    expected = {"ring": 2.280, "torus": 2.724, "complete": barrier, "fastest_ring": 2 - 1 / 16}
    for name, mean in expected.items():
        time = found[name].time
        # Of 120 steps, waiting is not quite that of the long run.
        assert abs(time.step / MS - mean) <= 4 * time.error / MS + 0.02 * mean
        assert time.parts == {"compute": MS, "stragglers": pytest.approx(time.step - MS), "latency": 0, "bandwidth": 0}


def test_what_changes_is_said(constant):
    steps = by_name(constant)["complete"].steps["accuracy"]
    found = what_if(question(PORTS), constant)
    assert found["bandwidth ×½"].needs["complete"] == steps * (20 + 2 + 30) * MS
    assert found["latency ×2"].needs["complete"] == steps * (20 + 4 + 15) * MS
    assert "stragglers ×2" not in found
    for changed in found.values():
        assert changed.changes == ([*changed.needs] != [one.name for one in constant.choices])
    network = hierarchy(
        nx.empty_graph(8),
        nodes=2,
        agents_per_node=4,
        inside={"bandwidth": "100 GB/s", "latency": "1 us"},
        between={"bandwidth": "10 GB/s", "latency": "50 us"},
        complete=True,
    )
    asking = question(network, by="round", law=Exponential(mean="1 ms"), size=10 * MB)
    found = advise(asking)
    otherwise = what_if(asking, found)
    assert any(changed.changes for changed in otherwise.values())
    spread = [otherwise[what].needs["complete"] for what in ("stragglers ×½", "stragglers ×2")]
    assert spread[0] < by_name(found)["complete"].time.step < spread[1]
    assert by_name(found)["clusters"].topology["clusters"] == 2
    assert not illegible(draw_advice(found))


def test_what_does_not_fit_is_left_out_with_its_reason():
    found = asked(all_pairs(11), most_neighbours=3)
    assert all((one.neighbours or 0) <= 3 for one in found.choices)
    assert found.left_out["complete"] == "an agent has 10 neighbours"
    assert found.left_out["torus"] == "it is the same graph as ring"
    assert "must be a power of two" in found.left_out["hypercube"]
    assert "symmetric" in asked(all_pairs(8), "exact_diffusion").left_out["fastest_ring"]
    links = published(nx.empty_graph(11), table="gaia", complete=True)
    kept = links.senders != 3
    arrays = ("senders", "receivers", "latency", "bandwidth")
    few = replace(links, **{name: getattr(links, name)[kept] for name in arrays})
    with pytest.raises(ExperimentError, match="no graph fits: agent"):
        asked(few)
    with pytest.raises(ExperimentError, match="isolated sends along no graph"):
        asked(all_pairs(3), "isolated")
    with pytest.raises(ExperimentError, match="compute: factors"):
        asked(all_pairs(3), law=Constant(mean="1 ms", factors=(1, 2)))


def test_candidates_suit_the_network():
    """Clusters are offered where some links are far faster and agents sit in their order; trees have few neighbours."""
    links = all_pairs(8, latency="1 ms")

    def offered(same, slow):
        apart = np.vectorize(same)(links.senders) != np.vectorize(same)(links.receivers)
        return candidates(replace(links, latency=np.where(apart, slow * MS, MS)), 0, np.zeros(8, np.int64))

    assert offered(lambda k: k // 4, 50)["clusters"]()["clusters"] == 2
    assert "clusters" not in offered(lambda k: k % 2, 50)  # neighbours by number sit apart
    assert "clusters" not in offered(lambda k: k // 4, 3)
    star = replace(links, latency=np.where((links.senders == 1) | (links.receivers == 1), MS, 9 * MS))
    for most, degree in ((None, 3), (2, 2)):
        tree = candidates(star, 0, np.zeros(8, np.int64), most_neighbours=most)["bounded_tree"]()
        assert max(degree for _, degree in tree.degree) == degree
    odd = candidates(all_pairs(9), 0, np.zeros(9, np.int64), most_neighbours=3)["random_regular"]()
    assert odd["degree"] == 2  # nine agents cannot all have three


def test_designs_reach_the_published_cycle_times():
    """Gaia in table 3 of Marfoq et al., in whole milliseconds."""
    network = published(nx.empty_graph(11), table="gaia", complete=True)
    found = by_name(asked(network, law=Constant(mean="25.4 ms"), size=round(44_961_717 / 8), by="round"))
    tree, ring = found["fastest_tree"].time, found["fastest_ring"].time
    assert round(tree.step / MS) == 138 and tree.critical == "Virginia ↔ Sao Paulo" and tree.bound == "latency"
    designed = found["fastest_ring"].topology
    takes = lone_messages(network, round(44_961_717 / 8))
    sender, receiver = max(designed.edges, key=lambda edge: takes[edge])
    slowest = f"{network.names[sender]} → {network.names[receiver]}"
    assert round(ring.step / MS) == 118 and ring.critical == f"{slowest}, of 11 links"
    assert np.isclose(sum(ring.parts.values()), ring.step)
    assert isinstance(designed, nx.DiGraph)


def summed(network, compute, means):
    """Time a step of a gradient and a sum of 1000 bytes at agent 0."""
    step = StepFlow((Event("compute", ((1, 1),), share=1.0), Event("collective", ((0, 0),), 1000, "server")), ((1, 0),))
    first = replace(step, events=(replace(step.events[0], waits=()), step.events[1]))
    draws = ComputeDraws(np.asarray(compute), np.asarray(means))
    return round_time(Choice(DataFlow((first,), (step,)), {}, server), network, draws)


def test_a_server_is_timed_by_its_queue():
    """Vectors take 1000 ns each, and are taken as they come: agents of different speeds queue for less time."""
    network = all_pairs(4, latency="10 ns", access={"up": "1 GB/s", "down": "1 GB/s"})

    def of(compute):
        busy = 0
        for ready in sorted(compute[1:]):
            busy = max(busy, ready) + 1000
        return max(busy + 10, compute[0]) + 3010

    always = [500, 100, 900, 3000]
    found = summed(network, [[always]], always)
    assert found.step == of(always) == 7020 and found.error == 0
    assert found.parts["latency"] == 20 and sum(found.parts.values()) == found.step
    varying = np.random.default_rng(0).integers(0, 2000, (30, 5, 4))
    varying[:10] += 10**6  # which are no part of the long run
    found = summed(network, varying, [1000] * 4)
    slopes = np.array([[of(times) for times in step] for step in varying[10:]]).mean(0)
    assert found.step == pytest.approx(slopes.mean()) and found.step < of([1000] * 4)
    assert found.error == pytest.approx(slopes.std(ddof=1) / np.sqrt(5))
