"""Sums over all agents on described networks."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from basinet.topologies.networks import Network, Ports, collectives, hierarchy, uniform_links
from basinet.topologies.timing import all_reduces
from basinet.topologies.timing.after_the_last import after_the_last
from basinet.topologies.timing.all_reduces import COLLECTIVES, duration, server

LINE = {"latency": "5 us", "bandwidth": "10 GB/s"}


def alike(agents, **more):
    return uniform_links(nx.complete_graph(agents), **LINE, **more)


def time(name, network, size, **settings):
    return duration(network, COLLECTIVES[name](network, size, **settings))


@pytest.mark.parametrize("agents", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("name", ["ring", "tree", "recursive_doubling", "halving_doubling"])
def test_on_links_alike_sums_take_the_times_of_the_formulas(name, agents):
    size = 840 * 10**5  # parts are whole, and in whole nanoseconds but for one rounding each
    expected = collectives.ALL_REDUCES[name](agents, size, 5_000, 1e10)
    assert time(name, alike(agents), size) == pytest.approx(expected, abs=4 * agents)


def test_a_server_takes_one_message_after_the_other():
    """Seven messages of 10 ms in, and seven out."""
    access = {"up": "10 GB/s", "down": "10 GB/s"}
    assert time("server", alike(8, access=access), 10**8, agent=3) == 2 * (5_000 + 7 * 10**7)
    star = uniform_links(nx.star_graph(7), **LINE, access=access)  # whose links suffice
    assert time("server", star, 10**8) == 2 * (5_000 + 7 * 10**7)
    with pytest.raises(ValueError, match=r"^server: there is no agent 8, but agents 0 to 7$"):
        time("server", star, 10**8, agent=8)


def test_a_server_does_not_wait_for_the_last_agent_to_begin():
    """Agents are ready at 1, 2 and 4; with 1 ns of latency and 3 ns a message, uploads end at 5, 8 and 11."""
    access = {"up": "2 GB/s", "down": "2 GB/s"}
    star = uniform_links(nx.star_graph(3), latency="1 ns", access=access)
    ready = np.array([[1, 1, 40], [1, 4, 1], [2, 2, 2], [4, 1, 4]])
    # Downloads end at 15, 18 and 21, in whichever order agents were ready; a server may itself be the last.
    assert after_the_last(star, server(star, 6))(ready).tolist() == [21 - 4, 21 - 4, 10]
    shared = uniform_links(nx.star_graph(3), latency="1 ns", access=access | {"sharing": "fair"})
    assert after_the_last(shared, server(shared, 6))(ready).tolist() == [21 - 4, 21 - 4, 10]
    ring = COLLECTIVES["ring"](alike(4), 840)
    assert after_the_last(alike(4), ring)(ready).tolist() == [duration(alike(4), ring)] * 3
    with pytest.raises(ValueError, match="no link from 2 to 1, over which the sum"):
        after_the_last(star, server(star, 6, agent=1))


@pytest.mark.parametrize("ports", [{}, {"sharing": "fair"}, {"duplex": "half"}])
def test_a_server_takes_what_it_would_if_all_are_ready_at_once(ports):
    rng = np.random.default_rng(0)
    links = uniform_links(nx.star_graph(5), access={"up": "4 GB/s", "down": "4 GB/s"} | ports)
    bandwidth, latency = rng.uniform(2e9, 9e9, 10), rng.integers(0, 900, 10)
    network = replace(links, bandwidth=bandwidth, latency=latency)
    rounds = server(network, 1000)
    assert after_the_last(network, rounds)(np.full((6, 2), 77)).tolist() == [duration(network, rounds)] * 2
    # Far apart, each has the port to itself.
    ready = np.arange(6)[:, None] * 10**5
    last, back = np.flatnonzero(links.senders == 5)[0], duration(network, rounds[1:])
    alone = latency[last] + max(round(1e12 / bandwidth[last]), 250)
    assert after_the_last(network, rounds)(ready).tolist() == [alone + back]


def machines(nodes=4, agents_per_node=8, **more):
    """The published case: 4 servers of 8, 400 and 50 GB/s, with a line between servers for each agent."""
    places = nodes * agents_per_node
    inside = np.arange(places) // agents_per_node
    receivers, senders = np.divmod(np.arange(places**2), places)
    receivers, senders = receivers[apart := receivers != senders], senders[apart]
    near = inside[receivers] == inside[senders]
    return Network(
        agents=places,
        senders=senders,
        receivers=receivers,
        latency=np.where(near, 1_000, 5_000),
        bandwidth=np.where(near, 4e11, 5e10),
        hosts=inside,
        ports=Ports(**more),
    )


def test_machines_add_up_inside_first():
    """8.169 ms for 1 GB; a flat ring, whose slowest link decides, 39.06."""
    assert time("hierarchical", machines(), 10**9) == pytest.approx(8.169e6, abs=1e3)
    assert time("ring", machines(), 10**9) == pytest.approx(39.06e6, abs=1e4)
    closed = collectives.hierarchical(4, 8, 10**9, (1_000, 4e11), (5_000, 5e10))
    assert time("hierarchical", machines(), 10**9) == pytest.approx(closed, abs=40)


def test_machines_share_their_uplinks():
    """Eight rings across share an uplink: the parts take as long as the whole vector would on one."""
    near, far = {"latency": "1 us", "bandwidth": "400 GB/s"}, {"latency": "5 us", "bandwidth": "50 GB/s"}
    network = hierarchy(nx.complete_graph(32), nodes=4, agents_per_node=8, inside=near, between=far)
    expected = 14 * (1_000 + 312_500) + 6 * (5_000 + 5_000_000)
    assert time("hierarchical", network, 10**9) == pytest.approx(expected, rel=1e-6)


def test_the_best_depends_on_the_size_and_on_the_links():
    network = alike(8)
    least = {size: duration(network, all_reduces.best(network, size)) for size in (1_000, 10**8)}
    assert least[1_000] == time("recursive_doubling", network, 1_000)
    assert least[10**8] == time("halving_doubling", network, 10**8)
    pods = machines(3, 3)  # no power of two
    assert duration(pods, all_reduces.best(pods, 10**9)) == time("hierarchical", pods, 10**9)
    ring = uniform_links(nx.cycle_graph(8), **LINE)
    assert duration(ring, all_reduces.best(ring, 1_000)) == time("ring", ring, 1_000)
    path = uniform_links(nx.path_graph(8), **LINE)
    with pytest.raises(ValueError, match=r"^agent 7 sends to agent 0, .* over which the sum over all agents passes$"):
        duration(path, all_reduces.best(path, 1_000))


def test_parts_are_whole_bytes_and_machines_are_those_of_the_agents():
    assert all_reduces.ring(alike(3), 10)[0].size == 4
    near, far = {"bandwidth": "100 GB/s"}, {"bandwidth": "1 GB/s"}
    pods = [
        hierarchy(nx.complete_graph(4), nodes=2, agents_per_node=2, inside=near, between=far, hosts=hosts)
        for hosts in ([0, 1, 2, 3], [0, 2, 1, 3])
    ]
    assert time("hierarchical", pods[0], 1000) == time("hierarchical", pods[1], 1000) == 2 * 5 + 2 * 500


def test_hierarchical_sums_need_machines_alike():
    with pytest.raises(ValueError, match=r"^hierarchical needs a network of machines"):
        time("hierarchical", alike(4), 100)
    near = {"latency": "1 us"}
    pods = hierarchy(nx.complete_graph(3), nodes=2, agents_per_node=2, inside=near, between=near, hosts=[0, 1, 2])
    with pytest.raises(ValueError, match=r"equally many agents, but these have 1 to 2$"):
        time("hierarchical", pods, 100)


@pytest.mark.parametrize("agents", [2, 5, 8, 12])
@pytest.mark.parametrize("name", ["tree", "recursive_doubling", "server"])
def test_whole_vectors_reach_everybody(name, agents):
    """Those that are sent round by round hold everybody's contribution at the end."""
    network = alike(agents)
    known = np.eye(agents, dtype=bool)
    for part in COLLECTIVES[name](network, 100):
        before = known.copy()
        for sender, receiver in zip(part.senders, part.receivers, strict=True):
            known[receiver] |= before[sender]
    assert known.all()
