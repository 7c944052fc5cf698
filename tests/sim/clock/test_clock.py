"""Times of steps: hand-worked tables, recursions of maxima and sums, closed forms."""

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array

from basinet.sim.clock.clock import Clock, clock_of
from basinet.sim.clock.data_flow import DataFlow, Event, StepFlow
from basinet.topologies.networks import Network

M = 100


def network_of(latency, per_byte=0):
    """A network with latencies in nanoseconds by sender and receiver, over whose links a byte takes so long."""
    links = sorted(latency, key=lambda edge: edge[::-1])
    senders, receivers = np.array(links).T
    return Network(
        agents=1 + int(max(senders.max(), receivers.max())),
        senders=senders,
        receivers=receivers,
        latency=np.array([latency[link] for link in links]),
        bandwidth=np.full(len(links), 1e9 / per_byte if per_byte else np.inf),
    )


def weights_of(edges):
    agents = 1 + max(max(edge) for edge in edges)
    w = np.eye(agents)
    for sender, receiver in edges:
        w[receiver, sender] = 1
    return csr_array(w)


def both_ways(latency):
    return latency | {(b, a): d for (a, b), d in latency.items()}


def flow(*events, result):
    return DataFlow((), (StepFlow(events, result),))


def computes(*waits, share=1.0):
    return Event("compute", waits, share=share)


def sends(*waits, size=M, edges="graph"):
    return Event("exchange", waits, size, edges)


def sums(*waits):
    return Event("collective", waits, M, "server")


def started(steps):
    """Leave out of the first step what would have been before it."""
    (step,) = steps.cycle

    def now(waits):
        return tuple(wait for wait in waits if wait[1] == 0)

    events = tuple(Event(e.kind, now(e.waits), e.size, e.edges, e.share) for e in step.events)
    return DataFlow((StepFlow(events, now(step.result)),), steps.cycle)


ATC = started(flow(computes((1, 1)), sends((0, 0)), result=((1, 0),)))
CTA = started(flow(sends((1, 1)), computes((0, 0)), result=((1, 0),)))
CONSENSUS = started(flow(computes((1, 1)), sends((0, 1), (1, 1)), result=((0, 0), (1, 0))))
AUG_DGM = started(flow(computes((2, 1)), sends((0, 0)), sends((1, 0)), result=((2, 0),)))
CENTRALIZED = started(flow(computes((1, 1)), sums((0, 0)), result=((1, 0),)))
# The gradient needs the mixed parameters, and the tracker travels behind these.
DIGING = started(flow(sends((1, 1), (2, 1)), computes((0, 0)), sends((1, 1), (2, 1)), result=((1, 0), (2, 0))))

PATH = both_ways({(0, 1): 1, (1, 2): 2})
RING = {(0, 1): 1, (1, 2): 2, (2, 0): 3}


def timed(data_flow, latency, compute, per_byte=0, **keys):
    compute = np.asarray(compute, dtype=np.int64)
    draw = (lambda step: np.atleast_2d(compute)) if compute.ndim < 3 else (lambda step: compute[step])
    replicas = len(draw(0))
    return Clock(
        data_flow,
        {"graph": [weights_of(latency)]},
        agents=compute.shape[-1],
        replicas=replicas,
        network=network_of(latency, per_byte),
        compute=draw,
        **keys,
    )


def table(clock, steps):
    rows = []
    for step in range(1, steps + 1):
        assert clock.advance(step).tolist() == clock.times.max(1).tolist()
        rows.append(clock.times[0].tolist())
    return rows


SHORT_PATH = both_ways({(0, 1): 1, (1, 2): 1})
OF_ATC = [[3, 6, 4], [9, 10, 10], [13, 16, 14], [19, 20, 20]]
OF_CTA = [[2, 4, 6], [6, 10, 10], [12, 14, 16], [16, 20, 20]]
OF_CONSENSUS = [[1, 2, 4], [3, 6, 8], [7, 10, 12], [11, 14, 16]]
OF_AUG_DGM = [[6, 5, 6], [12, 11, 12], [18, 17, 18], [24, 23, 24]]


@pytest.mark.parametrize(
    ("data_flow", "latency", "per_byte", "compute", "expected"),
    [
        (ATC, PATH, 0, (1, 2, 4), OF_ATC),
        (CTA, PATH, 0, (1, 2, 4), OF_CTA),
        (CONSENSUS, PATH, 0, (1, 2, 4), OF_CONSENSUS),
        (AUG_DGM, SHORT_PATH, 0, (1, 2, 4), OF_AUG_DGM),
        # In half nanoseconds: latency and transfer of a message 1 each.
        (
            DIGING,
            {edge: M for edge in SHORT_PATH},
            1,
            (2 * M, 4 * M, 8 * M),
            [[4 * M, 6 * M, 10 * M], [10 * M, 16 * M, 18 * M], [20 * M, 24 * M, 26 * M], [28 * M, 32 * M, 34 * M]],
        ),
        (ATC, RING, 0, (1, 2, 4), [[7, 2, 4], [11, 9, 8], [15, 13, 13], [20, 17, 17]]),
        (CONSENSUS, RING, 0, (1, 2, 4), [[3, 2, 4], [7, 4, 8], [11, 8, 12]]),
    ],
    ids=["ATC", "CTA", "consensus", "Aug-DGM", "DIGing", "ATC on a ring", "consensus on a ring"],
)
def test_tables_by_hand(data_flow, latency, per_byte, compute, expected):
    assert table(timed(data_flow, latency, compute, per_byte), len(expected)) == expected


@pytest.mark.parametrize(
    ("strategy", "latency", "expected"),
    [
        ({"name": "diffusion"}, PATH, OF_ATC),
        ({"name": "diffusion", "order": "cta"}, PATH, OF_CTA),
        ({"name": "consensus"}, PATH, OF_CONSENSUS),
        ({"name": "gradient_tracking"}, SHORT_PATH, OF_AUG_DGM),
        # Four rounds of the ring, with the latency 3 of its slowest link.
        ({"name": "centralized"}, PATH | {(2, 0): 3}, [[16] * 3, [32] * 3, [48] * 3]),
    ],
    ids=["ATC", "CTA", "consensus", "Aug-DGM", "centralised"],
)
def test_runs_have_the_times_of_the_tables(strategy, latency, expected, make_setup):
    setup = make_setup(
        task="quadratic",
        model={"name": "point", "start": 2.0},
        topology={"name": "path", "agents": 3},
        strategy=strategy,
        network=network_of(latency),
        compute={"name": "constant", "mean": "1 ns", "factors": [1, 2, 4]},
        trial=False,
    )
    assert table(clock_of(setup), len(expected)) == expected


def test_a_centralised_step_ends_for_all_with_its_sum():
    """A ring all-reduce of 6 bytes at 2 a nanosecond, latency 1: 2 · 2 + 2 (2 / 3) 3 = 8."""
    clock = timed(CENTRALIZED, PATH, (1, 2, 4), collective=lambda size: lambda ready: 8)
    assert table(clock, 3) == [[12] * 3, [24] * 3, [36] * 3]


def test_a_server_takes_vectors_as_they_come(make_setup):
    """Agents 1 to 3 compute for 1, 2 and 4 ns: uploads end at 5, 8 and 11, downloads at 15, 18 and 21."""
    access = {"up": "8 GB/s", "down": "8 GB/s"}  # 3 ns for 24 bytes
    setup = make_setup(
        task={"name": "quadratic", "curvature": 1.0, "dimension": 3},
        model="point",
        topology={"name": "star", "agents": 4},
        strategy="centralized",
        network={"name": "uniform", "latency": "1 ns", "access": access, "all_reduce": "server"},
        compute={"name": "constant", "mean": "1 ns", "factors": [1, 1, 2, 4]},
        trial=False,
    )
    assert table(clock_of(setup), 2) == [[21] * 4, [42] * 4]


def test_without_overlap_agents_do_one_thing_after_the_other():
    """Consensus then takes the time of diffusion: it computes a gradient before it sends."""
    assert table(timed(CONSENSUS, PATH, (1, 2, 4), overlap=False), 4) == OF_ATC


def test_without_overlap_an_agent_does_not_compute_before_its_message_has_left():
    """Agent 0 hears nobody, and would go on at once; its message takes 100 ns to leave, and 7 ns to arrive."""
    for overlap, expected in ((True, [[10, 117], [20, 217]]), (False, [[110, 117], [220, 227]])):
        clock = timed(ATC, {(0, 1): 7}, (10, 10), 1, overlap=overlap)
        assert table(clock, 2) == expected
    assert clock.shares()["communication"] == [pytest.approx((100 + 107) / (120 + 127))]
    assert clock.shares()["compute"] == [pytest.approx(40 / (120 + 127))]


def test_local_steps_are_not_waited_for():
    """T ← T + max_k Σ C + T of the sum, every third step."""
    alone = StepFlow((computes(),), ((0, 0),))
    average = StepFlow((computes(), sums((0, 0))), ((1, 0),))
    after = StepFlow((computes((1, 1)),), ((0, 0),))
    compute = np.random.default_rng(0).integers(1, 50, (12, 2, 4))
    flow = DataFlow((alone,), (alone, average, after))
    clock = timed(flow, PATH, compute, collective=lambda size: lambda ready: 7 * size)
    for cycle in range(1, 5):
        ends = clock.advance(3 * cycle)
        expected = (compute[: 3 * cycle].reshape(cycle, 3, 2, 4).sum(1).max(2) + 7 * M).sum(0)
        assert ends.tolist() == expected.tolist() and (clock.times == ends[:, None]).all()


def random_network(seed):
    rng = np.random.default_rng(seed)
    graph = nx.connected_watts_strogatz_graph(9, 4, 0.5, seed=seed)
    return rng, both_ways({edge: int(rng.integers(0, 20)) for edge in graph.edges})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["ATC", "CTA", "consensus"])
def test_times_are_those_of_the_recursion(name, seed):
    """S_k ← max(S_k + C_k, max_l (…)) with random times in each step."""
    rng, latency = random_network(seed)
    compute = rng.integers(1, 30, (8, 2, 9))
    clock = timed({"ATC": ATC, "CTA": CTA, "consensus": CONSENSUS}[name], latency, compute)
    s = np.zeros((2, 9), dtype=int)
    for step, c in enumerate(compute):
        if name == "CTA":
            new = s.copy()
            for (sender, k), d in latency.items():
                new[:, k] = np.maximum(new[:, k], s[:, sender] + d)
            new += c
        else:
            new = s + c
            for (sender, k), d in latency.items():
                leaves = s[:, sender] + (c[:, sender] if name == "ATC" else 0)
                new[:, k] = np.maximum(new[:, k], leaves + d)
        s = new
        assert clock.advance(step + 1).tolist() == s.max(1).tolist()
        assert clock.times.tolist() == s.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_both_orders_of_diffusion_grow_alike(seed):
    """By max(max C, max over edges of (C_k + C_l) / 2 + D) a step, on critical cycles of one or two steps."""
    rng, latency = random_network(seed)
    compute = rng.integers(1, 30, 9)
    rate = max(2 * compute.max(), *(compute[a] + compute[b] + 2 * d for (a, b), d in latency.items()))
    for order in (ATC, CTA):
        clock = timed(order, latency, compute)
        clock.advance(300)
        before = clock.times.copy()
        clock.advance(302)
        assert (clock.times - before == rate).all()


def test_a_pause_travels_one_edge_a_step():
    graph = nx.path_graph(7)
    latency = both_ways(dict.fromkeys(graph.edges, 0))
    compute = np.full((12, 1, 7), 10)
    paused = compute.copy()
    paused[3, 0, 1] += 25
    clocks = timed(ATC, latency, compute), timed(ATC, latency, paused)
    distances = np.array([nx.shortest_path_length(graph, 1, k) for k in graph])
    for step in range(1, 13):
        for clock in clocks:
            clock.advance(step)
        late = (step - 3 >= np.maximum(distances, 1)) * 25
        assert (clocks[1].times - clocks[0].times == late).all()


def test_an_edge_carries_one_message_after_the_other():
    """Agent 0 is ahead of agent 1, which hears it over a slow link and does not answer: a message each 50 ns."""
    clock = timed(ATC, {(0, 1): 1000}, (10, 10), per_byte=1)
    assert table(clock, 3)[2] == [30, 10 + 3 * M + 1000]


def test_passes_take_their_share():
    clock = timed(started(flow(computes((1, 1)), computes(share=2.5), result=((1, 0),))), PATH, (1, 2, 4))
    assert table(clock, 2) == [[3, 7, 14], [6, 14, 28]]  # half a nanosecond is rounded to even


def test_passes_are_rounded_to_the_nearest_nanosecond():
    assert table(timed(started(flow(computes((0, 1), share=0.3), result=((0, 0),))), PATH, (9, 8, 7)), 1) == [[3, 2, 2]]


def test_messages_may_be_of_what_was_computed_two_steps_ago():
    first, later = StepFlow((computes(),), ((0, 0),)), StepFlow((computes(), sends((0, 2))), ((1, 0),))
    clock = timed(DataFlow((first, first), (later,)), both_ways({(0, 1): 100}), (10, 10))
    assert table(clock, 4) == [[10, 10], [20, 20], [110, 110], [120, 120]]


def test_messages_and_sums_take_what_their_size_does():
    waits = computes((2, 1)), sends((0, 0), size=10), sends((1, 0), size=100)
    clock = timed(started(flow(*waits, result=((2, 0),))), both_ways({(0, 1): 0}), (5, 5), 1)
    assert table(clock, 2) == [[115, 115], [230, 230]]
    sizes = Event("collective", ((0, 0),), 10, "server"), Event("collective", ((1, 0),), 100, "server")
    for cost in (2, 3):
        steps = started(flow(computes((2, 1)), *sizes, result=((2, 0),)))
        sums_of = timed(steps, PATH, (1, 2, 4), collective=lambda size, cost=cost: lambda ready: cost * size)
        assert table(sums_of, 1) == [[4 + cost * 110] * 3]


@pytest.mark.parametrize(
    ("data_flow", "compute", "computed", "communicated", "total"),
    [
        (CENTRALIZED, (1, 2, 4), 14, 24, 43),  # a sum of 8 ns for each, then their gradients
        (AUG_DGM, (4, 4), 16, 12, 28),  # twice 3 ns
        (started(flow(computes((2, 1)), sends((0, 0)), sums((1, 0)), result=((2, 0),))), (4, 4), 16, 22, 38),
    ],
    ids=["sum", "two exchanges", "exchange and sum"],
)
def test_all_that_is_waited_for_counts_as_communication(data_flow, compute, computed, communicated, total):
    latency = both_ways({(k, k + 1): 3 for k in range(len(compute) - 1)})
    clock = timed(data_flow, latency, compute, collective=lambda size: lambda ready: 8)
    clock.advance(2)
    shares = {name: share.tolist() for name, share in clock.shares().items()}
    assert shares["compute"] == [computed / total] and shares["communication"] == [communicated / total]


def test_graphs_take_turns():
    """Agents 0 and 1 talk in even steps, 1 and 2 in odd ones."""
    clock = Clock(
        ATC,
        {"graph": [weights_of(both_ways({(0, 1): 5, (2, 2): 0})), weights_of(both_ways({(1, 2): 7}))]},
        agents=3,
        network=network_of(both_ways({(0, 1): 5, (1, 2): 7})),
        compute=lambda step: np.array([[1, 2, 4]]),
    )
    assert table(clock, 3) == [[7, 6, 4], [8, 15, 15], [22, 17, 19]]


def test_messages_along_reverse_edges_take_what_these_do():
    """Agent 0 sends agent 1 two messages, one after the other, and gets one, over a link that is longer."""
    steps = started(flow(computes((2, 1)), sends((0, 0)), sends((0, 0), edges="reverse"), result=((1, 0), (2, 0))))
    latency = {(0, 1): 5, (1, 0): 70}
    weights = {"graph": [weights_of({(0, 1): 5})], "reverse": [weights_of(latency)]}
    clock = Clock(steps, weights, agents=2, network=network_of(latency, 1), compute=lambda step: np.array([[10, 10]]))
    assert table(clock, 1) == [[10 + M + 70, 10 + 2 * M + 5]]


@pytest.mark.parametrize(
    ("away", "expected"),
    [((False, True), [[5, 6], [10, 10], [15, 16]]), ((True, True), [[5, 6], [5, 6], [10, 11]])],
)
def test_an_absent_agent_does_not_wait_but_goes_on_when_its_neighbours_are_there(away, expected):
    """Agents compute for 5 and 3 ns, and are 1 ns apart; one or both of them are absent in the second step."""
    clock = timed(ATC, both_ways({(0, 1): 1}), (5, 3), absent=lambda step: np.array([away]) if step == 1 else None)
    assert table(clock, 3) == expected
    assert clock.shares()["communication"] == [0]  # what it has missed counts as idleness


@pytest.mark.parametrize("waits", [((1, 1), (2, 1)), ((2, 1), (1, 1))])
def test_of_messages_that_arrive_at_once_the_one_sent_last_was_waited_for(waits):
    """Agent 1 waits from 10 to 30: for a message that left at 10, and for one that agent 2 sent at 25."""
    steps = started(flow(computes(*waits), sends((0, 0)), sends((0, 0), edges="reverse"), result=waits))
    weights = {"graph": [weights_of({(0, 1): 20, (2, 2): 0})], "reverse": [weights_of({(2, 1): 5})]}
    network = network_of({(0, 1): 20, (2, 1): 5})
    clock = Clock(steps, weights, agents=3, network=network, compute=lambda step: np.array([[10, 10, 25]]))
    clock.advance(2)
    assert clock.shares()["communication"] == [5 / (20 + 40 + 50)]


def test_without_a_network_agents_wait_for_each_other_alone():
    keys = {"agents": 3, "compute": lambda step: np.array([[1, 2, 4]])}
    clock = Clock(ATC, {"graph": [weights_of(PATH)]}, **keys)
    assert table(clock, 3) == [[2, 4, 4], [6, 8, 8], [10, 12, 12]]


def test_time_is_divided_by_what_an_agent_waits_for():
    """In the second step, agent 0 waits 2 ns for agent 1 and 1 ns for its message; agent 1 for nothing."""
    clock = timed(ATC, both_ways({(0, 1): 1}), (1, 3))
    clock.advance(2)
    found = {name: share.tolist() for name, share in clock.shares().items()}
    assert found == {"compute": [8 / 11], "communication": [1 / 11], "idle": [pytest.approx(2 / 11, abs=1e-15)]}
    hidden = timed(CONSENSUS, both_ways({(0, 1): 3}), (4, 4))
    hidden.advance(9)
    assert hidden.shares()["compute"] == [1]


def test_replicas_do_not_affect_each_other():
    rng, latency = random_network(6)
    compute = rng.integers(1, 300, (6, 3, 9))
    together = timed(AUG_DGM, latency, compute, 1)
    together.advance(6)
    for replica in range(3):
        alone = timed(AUG_DGM, latency, compute[:, replica : replica + 1], 1)
        alone.advance(6)
        assert alone.times[0].tolist() == together.times[replica].tolist()
