"""Rounds of waiting: times worked out by hand, closed forms, and every cycle of small graphs."""

from fractions import Fraction

import networkx as nx
import numpy as np
import pytest

from basinet.topologies.timing.cycle_mean import critical_cycle
from basinet.topologies.timing.exchanges import exchange
from basinet.topologies.timing.growth import (
    combining_first,
    growth,
    joined,
    overlapped,
    sending_after,
    symmetric_growth,
)
from basinet.topologies.timing.max_plus import Arcs

COMPUTE = np.array([1, 2, 4])
PATH = Arcs.of(3, receivers=[1, 0, 2, 1], senders=[0, 1, 1, 2], delays=[1, 1, 2, 2])
NEAR = Arcs.of(3, receivers=[1, 0, 2, 1], senders=[0, 1, 1, 2], delays=[1, 1, 1, 1])
RING = Arcs.of(3, receivers=[1, 2, 0], senders=[0, 1, 2], delays=[1, 2, 3])
WIDE = Arcs.of(3, receivers=[1, 2, 0], senders=[0, 1, 2], delays=[1, 5, 6])
STEADY = np.array([1, 2, 3])


def two_messages(compute, latency, transfer, network):
    """DIGing: the model, which the gradient needs, leaves before the tracker."""
    first = np.full(len(network.senders), latency + transfer)
    whole = joined(compute, network, first + compute[network.receivers])
    tracked = joined(compute, network, first + transfer)
    receivers = np.concatenate([whole.receivers, tracked.receivers])
    senders = np.concatenate([whole.senders, tracked.senders])
    return Arcs.of(network.agents, receivers, senders, np.concatenate([whole.delays, tracked.delays]))


BY_HAND = {  # stages, S(1), S(2), …, growth
    "ATC": ([sending_after(COMPUTE, PATH)], [(3, 6, 4), (9, 10, 10), (13, 16, 14), (19, 20, 20)], 5),
    "CTA": ([combining_first(COMPUTE, PATH)], [(2, 4, 6), (6, 10, 10), (12, 14, 16), (16, 20, 20)], 5),
    "consensus": ([overlapped(COMPUTE, PATH)], [(1, 2, 4), (3, 6, 8), (7, 10, 12), (11, 14, 16)], 4),
    "Aug-DGM": (
        [sending_after(COMPUTE, NEAR), sending_after(0 * COMPUTE, NEAR)],
        [(6, 5, 6), (12, 11, 12), (18, 17, 18), (24, 23, 24)],
        6,
    ),
    "DIGing, in halves": (
        [two_messages(2 * COMPUTE, 1, 1, NEAR)],
        [(4, 6, 10), (10, 16, 18), (20, 24, 26), (28, 32, 34)],
        8,
    ),
    "ATC on a directed ring": (
        [sending_after(COMPUTE, RING)],
        [(7, 2, 4), (11, 9, 8), (15, 13, 13), (20, 17, 17)],
        Fraction(13, 3),
    ),
    "consensus on a directed ring": ([overlapped(COMPUTE, RING)], [(3, 2, 4), (7, 4, 8), (11, 8, 12)], 4),
    "ATC, slow links": ([sending_after(STEADY, WIDE)], [], 6),
    "consensus, slow links": ([overlapped(STEADY, WIDE)], [], 4),
}


@pytest.mark.parametrize(("stages", "times", "rate"), BY_HAND.values(), ids=BY_HAND)
def test_times_are_those_worked_out_by_hand(stages, times, rate):
    now = np.zeros((3, 1), dtype=np.int64)  # agents wait for themselves, too: nothing is theirs beforehand
    never = np.full_like(now, -(10**9))
    for after in times:
        for stage in stages:
            now = stage.latest(now, never)
        assert tuple(now[:, 0]) == after
    assert growth(stages).mean == rate


def random_network(rng, agents, both_ways):
    graph = nx.gnp_random_graph(agents, 0.4, seed=int(rng.integers(2**31)), directed=not both_ways)
    nx.add_cycle(graph, range(agents))
    delay = {edge: int(rng.integers(0, 50)) for edge in graph.edges}
    links = [(to, whence, d) for (whence, to), d in delay.items()]
    links += [(whence, to, d) for (whence, to), d in delay.items() if both_ways]
    return Arcs.of(agents, *zip(*links, strict=True))


def delays_of(arcs):
    """Return the longest delay from each sender to each receiver."""
    ordered = sorted(zip(arcs.delays, arcs.senders, arcs.receivers, strict=True))
    return {(int(sender), int(receiver)): int(delay) for delay, sender, receiver in ordered}


def around(cycle):
    return zip(cycle, (*cycle[1:], cycle[0]), strict=True)


def largest_mean(arcs):
    """Compute the mean of every cycle of a graph."""
    delays = delays_of(arcs)
    return max(
        Fraction(sum(delays[arc] for arc in around(cycle)), len(cycle))
        for cycle in nx.simple_cycles(nx.DiGraph([*delays]))
    )


@pytest.mark.parametrize("seed", range(10))
def test_the_critical_cycle_is_that_of_all_cycles(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, 6, both_ways=False)
    compute = rng.integers(0, 50, 6)
    for stage in (sending_after, combining_first, overlapped):
        arcs = stage(compute, network)
        found = critical_cycle(arcs)
        assert found.mean == largest_mean(arcs)
        delays = delays_of(arcs)
        assert sum(delays[arc] for arc in around(found.agents)) == found.mean * len(found.agents)


@pytest.mark.parametrize("seed", range(5))
def test_in_the_long_run_a_step_takes_the_mean_of_the_critical_cycle(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, 8, both_ways=False)
    compute = rng.integers(0, 50, 8)
    rates = {growth([stage(compute, network)]).mean for stage in (sending_after, combining_first)}
    assert len(rates) == 1  # their arcs differ by a potential
    stages = [sending_after(compute, network), sending_after(0 * compute, random_network(rng, 8, both_ways=False))]
    rate = growth(stages).mean
    times = [np.zeros(8, dtype=np.int64)]
    for _ in range(1000):
        now = times[-1]
        for stage in stages:
            now = stage.latest(now)
        times.append(now)
    # Times stay between those that start from an eigenvector, which spreads over at most 15 arcs of at most 100.
    assert abs((times[1000] - times[500]) - 500 * rate).max() <= 2 * 15 * 100


@pytest.mark.parametrize("seed", range(5))
def test_links_alike_both_ways_have_closed_forms(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, 12, both_ways=True)
    compute = rng.integers(0, 100, 12)
    assert symmetric_growth(compute, network) == growth([sending_after(compute, network)]).mean
    assert symmetric_growth(compute, network) == growth([combining_first(compute, network)]).mean
    assert symmetric_growth(compute, network, overlap=True) == growth([overlapped(compute, network)]).mean
    free = Arcs(network.starts, network.senders, 0 * network.delays)
    assert symmetric_growth(compute, free) == compute.max()


def test_a_pause_travels_as_a_wave():
    graph, pause = nx.random_regular_graph(3, 20, seed=0), 37
    to, whence = np.array([*graph.to_directed().edges]).T
    arcs = Arcs.of(20, to, whence, np.zeros(len(to)))
    distance = nx.single_source_shortest_path_length(graph, 4)
    late, on_time = np.zeros(20, dtype=np.int64), np.zeros(20, dtype=np.int64)
    late[4] += pause
    for n in range(1, 8):
        late, on_time = arcs.latest(late + 5), arcs.latest(on_time + 5)
        assert [*(late - on_time)] == [pause if n >= distance[k] else 0 for k in range(20)]


def test_replicas_labels_and_units_change_nothing():
    rng = np.random.default_rng(0)
    network = random_network(rng, 9, both_ways=False)
    sent = rng.integers(0, 2**60, (9, 4))
    own = rng.integers(0, 2**60, (9, 4))
    together = network.latest(sent, own)
    expected = own.copy()
    for receiver, sender, delay in zip(network.receivers, network.senders, network.delays, strict=True):
        expected[receiver] = np.maximum(expected[receiver], sent[sender] + delay)
    assert (together == expected).all()
    for r in range(4):
        assert (network.latest(sent[:, r], own[:, r]) == together[:, r]).all()
        assert (network.latest(sent[:, [r]], own[:, [r]]) == together[:, [r]]).all()
    order = rng.permutation(9)
    renamed = Arcs.of(9, order[network.receivers], order[network.senders], network.delays)
    there = np.empty_like(sent), np.empty_like(own)
    there[0][order], there[1][order] = sent, own
    assert (renamed.latest(*there)[order] == together).all()
    assert (network.latest(sent + 11, own + 11) == together + 11).all()


def test_what_cannot_be_waited_for_is_refused():
    with pytest.raises(ValueError, match="an arc names agent 3; the 3 agents are numbered from 0"):
        Arcs.of(3, [0, 1], [1, 3], [0, 0])
    with pytest.raises(ValueError, match="agent 1 waits for nobody, not even itself"):
        critical_cycle(Arcs.of(2, [0], [1], [5]))
    with pytest.raises(ValueError, match="the link between agents 0 and 1 is not the same both ways"):
        symmetric_growth(np.ones(2, dtype=np.int64), Arcs.of(2, [0, 1], [1, 0], [3, 4]))
    with pytest.raises(ValueError, match="between agents 0 and 1 is not the same both ways"):
        symmetric_growth(np.ones(3, dtype=np.int64), RING)


def test_messages_queue_on_their_line():
    rng = np.random.default_rng(1)
    network = random_network(rng, 7, both_ways=False)
    size = len(network.senders)
    lines, latency, transfer = rng.permutation(size), rng.integers(0, 9, size), rng.integers(0, 9, size)
    busy = rng.integers(0, 40, (size, 3))
    expected_busy = busy.copy()
    for _ in range(3):
        ready = rng.integers(0, 40, (7, 3))
        found = exchange(ready, busy, network.starts, network.senders, lines, latency, transfer)
        for r in range(3):
            arrivals = [[(time, time)] for time in ready[:, r]]
            for message, (receiver, sender) in enumerate(zip(network.receivers, network.senders, strict=True)):
                line = lines[message], r
                expected_busy[line] = max(ready[sender, r], expected_busy[line]) + transfer[message]
                arrivals[receiver].append((expected_busy[line] + latency[message], ready[sender, r]))
            last = [max(each) for each in arrivals]
            assert [time for time, _ in last] == found.end[:, r].tolist()
            behind = [max(sent, own) for (_, sent), own in zip(last, ready[:, r], strict=True)]
            assert (found.end[:, r] - behind).tolist() == found.network[:, r].tolist()
        assert (busy == expected_busy).all()
