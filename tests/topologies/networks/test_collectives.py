"""Collective operations, message by message: what arrives where, and when."""

from fractions import Fraction
from math import ceil, log2

import networkx as nx
import numpy as np
import pytest

from basinet.topologies.networks.collectives import (
    ALL_REDUCES,
    all_gather,
    all_reduce,
    broadcast,
    double_tree,
    halving_doubling,
    hierarchical,
    parameter_server,
    recursive_doubling,
    ring_all_reduce,
    server_round,
    tree_all_reduce,
)

LATENCY, BANDWIDTH = 5_000, 1e9  # a byte takes a nanosecond


class Agents:
    """Agents with vectors in pieces, who know whose contributions each piece sums up, and until when they are busy."""

    def __init__(self, count, pieces, owned=None):
        self.sums = [
            [{k} if owned is None or owned(k, piece) else set() for piece in range(pieces)] for k in range(count)
        ]
        self.sending, self.receiving = [Fraction(0)] * count, [Fraction(0)] * count
        self.has = [[Fraction(0)] * pieces for _ in range(count)]

    def round(self, messages, piece_bytes):
        """Send at once; a message is (sender, receiver, pieces, whether they are added)."""
        found = [[self.sums[sender][piece] for piece in pieces] for sender, _, pieces, _ in messages]
        known = [max(self.has[sender][piece] for piece in pieces) for sender, _, pieces, _ in messages]
        assert len({sender for sender, *_ in messages}) == len({to for _, to, *_ in messages}) == len(messages)
        for (sender, to, pieces, adds), sums, ready in zip(messages, found, known, strict=True):
            end = max(ready, self.sending[sender], self.receiving[to]) + LATENCY + len(pieces) * piece_bytes
            self.sending[sender] = self.receiving[to] = end
            for piece, told in zip(pieces, sums, strict=True):
                assert told
                assert not adds or not told & self.sums[to][piece]  # nothing is added twice
                self.sums[to][piece] = self.sums[to][piece] | told if adds else told
                self.has[to][piece] = max(end, self.has[to][piece])

    @property
    def end(self):
        return max(map(max, self.has))

    def all_know_all(self):
        everyone = set(range(len(self.sums)))
        return all(each == everyone for own in self.sums for each in own)


SIZE = 2**4 * 3 * 5 * 7 * 1000


def on_a_ring(count, agents, adds, shift=0):
    """Pass pieces on K − 1 times: agent k first sends piece k + shift."""
    for step in range(count - 1):
        agents.round(
            [(k, (k + 1) % count, [(k + shift - step) % count], adds) for k in range(count)], Fraction(SIZE, count)
        )


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_ring(count):
    agents = Agents(count, count)
    on_a_ring(count, agents, adds=True)
    scattered = agents.end
    assert scattered == all_gather(count, SIZE, LATENCY, BANDWIDTH)
    on_a_ring(count, agents, adds=False, shift=1)
    assert agents.all_know_all()
    assert agents.end == ring_all_reduce(count, SIZE, LATENCY, BANDWIDTH) == 2 * scattered


def test_a_late_agent_delays_a_ring_by_its_whole_lateness():
    agents = Agents(8, 8)
    agents.has[3] = [Fraction(10**6)] * 8
    on_a_ring(8, agents, adds=True)
    on_a_ring(8, agents, adds=False, shift=1)
    assert agents.end == ring_all_reduce(8, SIZE, LATENCY, BANDWIDTH) + 10**6


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_each_sends_to_each_directly(count):
    agents = Agents(count, count, owned=lambda k, piece: k == piece)
    for step in range(1, count):
        agents.round([(k, (k + step) % count, [k], False) for k in range(count)], Fraction(SIZE, count))
    assert all(agents.sums[k][piece] == {piece} for k in range(count) for piece in range(count))
    assert agents.end == all_gather(count, SIZE, LATENCY, BANDWIDTH)


def folded(count, pieces, rounds):
    """Let those above a power of two hand over their vectors, and get the result."""
    agents, power = Agents(count, pieces), 2 ** int(log2(count))
    every, above = list(range(pieces)), range(power, count)
    agents.round([(k, k - power, every, True) for k in above], Fraction(SIZE, pieces))
    rounds(agents, power)
    agents.round([(k - power, k, every, False) for k in above], Fraction(SIZE, pieces))
    assert agents.all_know_all()
    return agents.end


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8, 11])
def test_doubling(count):
    def rounds(agents, power):
        for bit in range(int(log2(power))):
            agents.round([(k, k ^ 2**bit, [0], True) for k in range(power)], SIZE)

    assert folded(count, 1, rounds) == recursive_doubling(count, SIZE, LATENCY, BANDWIDTH)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8, 11])
def test_halving_and_doubling(count):
    def rounds(agents, power):
        bits = [2**bit for bit in range(int(log2(power)))]
        for bit in reversed(bits):  # hand on the half that belongs to the other's side, of what one is to sum up
            agents.round(
                [
                    (
                        k,
                        k ^ bit,
                        [p for p in range(power) if p & bit != k & bit and p // bit // 2 == k // bit // 2],
                        True,
                    )
                    for k in range(power)
                ],
                Fraction(SIZE, power),
            )
        for bit in bits:
            agents.round(
                [(k, k ^ bit, [p for p in range(power) if p // bit == k // bit], False) for k in range(power)],
                Fraction(SIZE, power),
            )

    power = 2 ** int(log2(count))
    assert folded(count, power, rounds) == halving_doubling(count, SIZE, LATENCY, BANDWIDTH)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8])
def test_tree(count):
    agents = Agents(count, 1)
    bits = [2**bit for bit in range(ceil(log2(count)))]
    for bit in bits:
        agents.round([(k, k - bit, [0], True) for k in range(bit, count, 2 * bit)], SIZE)
    for bit in reversed(bits):
        agents.round([(k - bit, k, [0], False) for k in range(bit, count, 2 * bit)], SIZE)
    assert agents.all_know_all()
    assert agents.end == tree_all_reduce(count, SIZE, LATENCY, BANDWIDTH)


def test_a_chain_in_pieces():
    for count, pieces in ((2, 1), (6, 7), (6, 30)):
        agents = Agents(count, pieces, owned=lambda k, _: k == 0)
        for step in range(count - 2 + pieces):
            moves = [(k, k + 1, [step - k], False) for k in range(count - 1) if 0 <= step - k < pieces]
            agents.round(moves, Fraction(SIZE, pieces))
        assert all(each == {0} for own in agents.sums for each in own)
        assert agents.end == (count - 2 + pieces) * (LATENCY + Fraction(SIZE, pieces))
        assert broadcast(count, SIZE, LATENCY, BANDWIDTH) <= agents.end
    best = min(round((4 + m) * (LATENCY + SIZE / m)) for m in range(1, 2000))
    assert broadcast(6, SIZE, LATENCY, BANDWIDTH) == best
    assert broadcast(6, SIZE, 0, BANDWIDTH) == SIZE + 4
    assert broadcast(6, SIZE, LATENCY, float("inf")) == 5 * LATENCY


def in_order(first, last, parent, edges):
    """Add the edges of a tree in whose order leaves stand at odd places."""
    if first > last:
        return
    root = first - 1 + 2 ** int(log2(last - first + 1))
    edges.append((parent, root))
    in_order(first, root - 1, root, edges)
    in_order(root + 1, last, root, edges)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 9, 16])
def test_two_trees(count):
    """Agent 0 broadcasts; a reduction is the same backwards."""
    last, trees = count - 1, ([], [])
    in_order(1, last, 0, trees[0])
    other = (lambda k: last + 1 - k) if last % 2 == 0 else (lambda k: (k - 2) % last + 1)
    trees[1].extend((other(parent) if parent else 0, other(child)) for parent, child in trees[0])
    clashes = nx.Graph()
    edges = [(tree, *edge) for tree in (0, 1) for edge in trees[tree]]
    clashes.add_nodes_from(edges)
    clashes.add_edges_from((a, b) for a in edges for b in edges if a < b and (a[1] == b[1] or a[2] == b[2]))
    turn = nx.bipartite.color(clashes)  # an agent sends along one edge at a time, and receives from one
    levels = ceil(log2(count))
    for pieces in (1, 6):
        agents = Agents(count, pieces, owned=lambda k, _: k == 0)
        starts = turn[next(edge for edge in edges if edge[:2] == (0, 0))]
        waiting = {edge: list(range(edge[0], pieces, 2)) for edge in edges}
        for step in range(2 * (levels - 1) + pieces):
            moves = [edge for edge in edges if turn[edge] == (step + starts) % 2 and waiting[edge]]
            moves = [edge for edge in moves if agents.sums[edge[1]][waiting[edge][0]]]
            agents.round([(sender, to, [waiting[tree, sender, to].pop(0)], False) for tree, sender, to in moves], 1)
        assert all(each == {0} for own in agents.sums for each in own)
    best = min(round((2 * (levels - 1) + m) * (LATENCY + SIZE / m)) for m in range(1, 2000))
    assert double_tree(count, SIZE, LATENCY, BANDWIDTH) == 2 * best


def test_a_server_with_one_port():
    ends = server_round(np.array([1, 4, 2]), 6, 1, 2e9)  # uploads end at 5, 8 and 11
    assert ends.tolist() == [15, 21, 18]
    assert server_round(np.array([0, 100]), 6, 1, 2e9).tolist() == [108, 111]
    assert parameter_server(3, 6, 1, 2e9) == 20
    rng = np.random.default_rng(0)
    ready, free = rng.integers(0, 50, 10), 0
    for arrival in np.sort(ready) + 7:
        free = max(free, arrival) + 4
    found = server_round(ready, 4, 7, BANDWIDTH)
    assert np.sort(found).tolist() == [free + 7 + 4 * i for i in range(1, 11)]
    assert (np.argsort(found) == np.argsort(ready, kind="stable")).all()


def test_several_servers():
    servers, g, inside, between = 3, 4, (1_000, 4e9), (LATENCY, BANDWIDTH)
    rings = all_gather(g, SIZE, *inside) * 2
    across = Agents(servers, servers)
    for adds in (True, False):
        for step in range(servers - 1):
            across.round(
                [(k, (k + 1) % servers, [(k + (not adds) - step) % servers], adds) for k in range(servers)],
                Fraction(SIZE, g * servers),
            )
    assert across.all_know_all()
    assert hierarchical(servers, g, SIZE, inside, between) == rings + across.end
    assert round(hierarchical(4, 8, 10**9, (1_000, 4e11), (5_000, 5e10)) * 1e-6, 3) == 8.169
    assert ring_all_reduce(32, 10**9, 0, 5e10) == 38_750_000


def test_known_numbers():
    links = 5_000, 1e10
    times = {name: time(8, 10**8, *links) for name, time in ALL_REDUCES.items()}
    assert times["ring"] == 17_570_000
    assert times["recursive_doubling"] == 30_015_000
    assert times["halving_doubling"] == 17_530_000
    assert times["tree"] == 60_030_000
    assert ring_all_reduce(3, 6, 1, 2e9) == 8
    even = round((14 - 3) * 5e-6 * 1e10 / (3 - 14 / 8))  # where ring and doubling take as long
    assert even == 440_000
    assert ring_all_reduce(8, even, *links) == recursive_doubling(8, even, *links)


@pytest.mark.parametrize("count", [2, 3, 8, 13, 100])
@pytest.mark.parametrize("size", [0, 1_000, 10**9])
def test_no_algorithm_beats_the_bounds_and_the_best_is_the_least(count, size):
    found = {name: all_reduce(count, size, LATENCY, BANDWIDTH, algorithm=name).time for name in ALL_REDUCES}
    del found["server"]  # whose port is free while messages are on their way, and which agents do not have
    assert min(found.values()) >= ceil(log2(count)) * LATENCY
    assert min(found.values()) >= int(2 * (count - 1) * size / count)
    best = all_reduce(count, size, LATENCY, BANDWIDTH)
    assert best.time == min(found.values()) == found[best.algorithm]


def test_one_agent_has_nothing_to_do_and_others_are_named():
    assert {name for name, time in ALL_REDUCES.items() if time(1, SIZE, LATENCY, BANDWIDTH)} == {"server"}
    with pytest.raises(ValueError, match="there is no all-reduce 'nccl'; allowed are best, ring, recursive_doubling"):
        all_reduce(8, SIZE, LATENCY, BANDWIDTH, algorithm="nccl")
