"""Links, ports and shared lines."""

import inspect
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array

from basinet.topologies import metropolis
from basinet.topologies.networks import (
    NETWORKS,
    Fabric,
    Network,
    Ports,
    Routes,
    fair_shares,
    fat_tree,
    from_graph,
    over_tcp,
    store_and_forward,
    uniform_links,
)


def filled(passes: np.ndarray, capacity: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Progressive filling, one bottleneck after the other; a limit is a resource of one flow."""
    passes = np.vstack([passes, np.eye(limits.size)])
    left, rates, going = np.concatenate([capacity, limits]), np.zeros(limits.size), np.ones(limits.size, bool)
    while going.any():
        flows = passes[:, going].sum(axis=1)
        offers = np.divide(left, flows, out=np.full(left.size, np.inf), where=flows > 0)
        tight = int(np.argmin(offers))
        chosen = going & (passes[tight] > 0)
        rates[chosen] = offers[tight]
        left = left - passes[:, chosen].sum(axis=1) * offers[tight]
        going &= ~chosen
    return rates


def test_fair_shares_are_those_of_progressive_filling():
    draw = np.random.default_rng(0)
    for _ in range(30):
        resources, flows = draw.integers(1, 8), draw.integers(1, 12)
        passes = (draw.random((resources, flows)) < 0.4).astype(float)
        capacity, limits = draw.integers(1, 9, resources).astype(float), draw.integers(1, 9, flows).astype(float)
        rates = fair_shares(csr_array(passes), capacity, limits)
        np.testing.assert_allclose(rates, filled(passes, capacity, limits), rtol=1e-9)
        used = passes @ rates
        assert (used <= capacity * (1 + 1e-9)).all()
        # Each flow is at its limit, or passes a full resource on which no flow has more.
        for flow in range(flows):
            on = [r for r in range(resources) if passes[r, flow] and used[r] >= capacity[r] * (1 - 1e-9)]
            most = [rates[passes[r] > 0].max() for r in on]
            assert rates[flow] == limits[flow] or min(most) <= rates[flow] * (1 + 1e-9)
    assert fair_shares(csr_array((0, 2)), np.empty(0), np.array([3.0, np.inf])).tolist() == [3, np.inf]


@pytest.mark.parametrize(
    ("sharing", "duplex", "leaves", "hub"),
    [
        ("serial", "full", [1, 2, 3], [1, 2, 3]),
        ("fair", "full", [3, 3, 3], [3, 3, 3]),
        ("serial", "half", [2, 2, 3], [4, 5, 6]),  # a leaf sends before it receives
        ("fair", "half", [6, 6, 6], [6, 6, 6]),
    ],
)
def test_ports_of_a_star(sharing, duplex, leaves, hub):
    """Agent 0 sends to 1, 2, 3 and receives from them; a message takes 1 ms through a port."""
    star = uniform_links(
        nx.star_graph(3),
        bandwidth="10 GB/s",
        latency="1 us",
        access={"up": "1 GB/s", "down": "1 GB/s", "sharing": sharing, "duplex": duplex},
    )
    delays = star.delays(np.arange(6), 10**6)
    assert delays.latency.tolist() == [1000] * 6
    assert star.receivers.tolist() == [0, 0, 0, 1, 2, 3]
    assert delays.transfer.tolist() == [10**6 * turn for turn in [*hub, *leaves]]
    # A message alone passes at the rate of the port.
    assert star.delays(np.array([4]), 10**6).transfer.tolist() == [10**6]


def test_each_end_has_its_own_port():
    """Agents 1, 2 and 3 send to agent 0, which receives at half their rate; it sends at its own."""
    ports = Ports(up=[0.5e9, 1e9, 1e9, 1e9], down=[0.5e9, 2e9, 2e9, 2e9])
    star = replace(uniform_links(nx.star_graph(3)), ports=ports)
    assert star.delays(np.arange(6), 1000).transfer.tolist() == [2000, 4000, 6000] * 2
    assert star.delays(np.array([0]), 1000).transfer.tolist() == [2000]
    fast = replace(star, ports=replace(ports, down=[1e9, 0.25e9, 1e9, 1e9]))
    assert fast.delays(np.array([3, 4]), 1000).transfer.tolist() == [4000, 4000]


def test_a_network_twice_as_fast_takes_half_the_time():
    """Ports, shared lines and latencies included; the limit of a link is the lower one."""
    line = {"bandwidth": "10 GB/s", "latency": "1 us"}
    tree = fat_tree(nx.complete_graph(4), leaves=2, hosts_per_leaf=2, uplinks=1, host=line, spine=line)
    for one in (tree, replace(tree, congestion="queue"), replace(tree, ports=Ports(1e9, 1e9))):
        plain, fast = (each.delays(np.arange(12), 10**6) for each in (one, one.scaled(latency=0.5, bandwidth=2)))
        assert (2 * fast.latency == plain.latency).all() and (2 * fast.transfer == plain.transfer).all()
    routes = Routes.of_layers([np.array([0])], latency=[10], capacity=[1e9])
    queue = Network(2, *np.array([[0], [1], [10]]), np.array([1e9]), routes=routes, congestion="queue")
    fast = queue.scaled(latency=0.5, bandwidth=2).delays(np.array([0]), 1000)
    assert (fast.latency.tolist(), fast.transfer.tolist()) == ([5], [500])
    alike = uniform_links(nx.path_graph(2), bandwidth="1 GB/s")
    assert alike.limited(np.array([0.5e9, 2e9])).bandwidth.tolist() == [0.5e9, 1e9]


def test_links_are_those_that_a_mixing_matrix_uses():
    graph = nx.path_graph(4)
    network = uniform_links(graph, complete=True, latency="1 ns")
    links = network.links_of(metropolis(graph))
    pairs = list(zip(network.senders[links].tolist(), network.receivers[links].tolist(), strict=True))
    assert pairs == [(1, 0), (0, 1), (2, 1), (1, 2), (3, 2), (2, 3)]
    with pytest.raises(ValueError, match="agent 2 sends to agent 0, but the network has no link from 2 to 0"):
        uniform_links(graph).links_of(metropolis(nx.cycle_graph(3)))
    assert uniform_links(nx.empty_graph(3)).links_of(csr_array(np.eye(3))).size == 0


def test_edges_describe_their_links():
    graph = nx.DiGraph()
    graph.add_edge("b", "a", latency="2 ms", bandwidth="8 Mb/s", loss="1 %")
    graph.add_edge("a", "b", latency="3 ms")
    network = from_graph(graph)
    assert network.names == ("b", "a") and network.senders.tolist() == [1, 0]
    assert network.latency.tolist() == [3 * 10**6, 2 * 10**6] and network.bandwidth.tolist() == [np.inf, 1e6]
    assert network.loss.tolist() == [0, 0.01]
    undirected = from_graph(nx.Graph([(0, 1, {"latency": "2 ms"})]))
    assert undirected.latency.tolist() == [2 * 10**6] * 2 and undirected.loss is None
    with pytest.raises(ValueError, match=r"the edge of 0 and 1: bandwidth: got 10; a bandwidth needs"):
        from_graph(nx.DiGraph([(0, 1, {"latency": "2 ms", "bandwidth": 10})]))
    with pytest.raises(ValueError, match="the edge of 0 and 1 has no attribute 'latency'"):
        from_graph(nx.DiGraph([(0, 1)]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"senders": [0, 1], "receivers": [1, 0]}, "sorted by receiver"),
        ({"senders": [1, 1], "receivers": [0, 0]}, "none may stand twice"),
        ({"senders": [1, 1]}, "from 1 to 1 has the same agent"),
        ({"receivers": [0, 7]}, "name agents from 0 to 7"),
        ({"latency": [1, -1]}, "from 0 to 1 has a negative latency"),
        ({"bandwidth": [np.nan, 1]}, "from 1 to 0 has no positive bandwidth"),
        ({"loss": [0, 1]}, r"from 0 to 1 has a loss outside"),
    ],
)
def test_impossible_links_are_refused(changed, message):
    links = {"senders": [1, 0], "receivers": [0, 1], "latency": [1, 1], "bandwidth": [1.0, 1.0], "loss": [0.0, 0.0]}
    with pytest.raises(ValueError, match=message):
        Network(2, **{name: np.array(value) for name, value in (links | changed).items()})


@pytest.mark.parametrize(
    ("access", "message"),
    [
        ({"up": 10}, "uniform: access: got 10; a bandwidth needs a number and a unit, such as 10 Gb/s"),
        ({"sharing": "all"}, "uniform: access: sharing is 'all', but allowed are serial and fair"),
        ({"duplex": "no"}, "uniform: access: duplex is 'no', but allowed are full and half"),
        ({"upp": "1 Gb/s"}, "uniform: access: there is no key 'upp'; allowed are up, down, sharing, duplex"),
        ({"up": "1 b/s", "duplex": "half"}, "uniform: access: half-duplex ports send and receive at one rate"),
    ],
)
def test_impossible_access_is_refused(access, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        uniform_links(nx.path_graph(2), access=access)
    with pytest.raises(ValueError, match=r"^uniform: got 1\.5; a loss must be below 1"):
        uniform_links(nx.path_graph(2), loss=1.5)


@pytest.mark.parametrize("network", NETWORKS.values())
def test_signatures_follow_the_convention(network):
    graph, *settings = inspect.signature(network).parameters.values()
    assert graph.name == "graph" and graph.default is graph.empty
    assert all(setting.kind is setting.KEYWORD_ONLY for setting in settings)


def test_impossible_ports_are_refused():
    with pytest.raises(ValueError, match="must be positive"):
        Ports(up=0)
    with pytest.raises(ValueError, match="send and receive at one rate"):
        Ports(up=1, down=2, duplex="half")


def random_fabric(draw: np.random.Generator) -> Fabric:
    """Twelve nodes on a ring with chords, some of the latencies equal."""
    chords = {tuple(draw.choice(12, 2, replace=False).tolist()) for _ in range(20)}
    pairs = {(k, (k + 1) % 12) for k in range(12)} | chords
    senders, receivers = np.array(sorted(pairs)).T
    latency = draw.integers(1, 4, senders.size)
    return Fabric(tuple("abcdefgh"), 12, senders, receivers, latency, draw.integers(1, 9, senders.size).astype(float))


def test_routes_are_shortest():
    for seed in range(3):
        fabric = random_fabric(np.random.default_rng(seed))
        to, start = (ends.ravel() for ends in np.indices((8, 8)))
        routes = fabric.routes(start, to)
        graph = nx.DiGraph()
        for u, v, latency in zip(fabric.senders, fabric.receivers, fabric.latency, strict=True):
            graph.add_edge(int(u), int(v), weight=int(latency) * 1000 + 1)
        lengths = dict(nx.all_pairs_dijkstra_path_length(graph))
        expected = [divmod(lengths[u][v], 1000) for u, v in zip(start.tolist(), to.tolist(), strict=True)]
        assert routes.sums(routes.latency).tolist() == [latency for latency, _ in expected]
        assert routes.hops.tolist() == [hops for _, hops in expected]
        for route in range(routes.hops.size):
            lines = routes.lines[routes.starts[route] : routes.starts[route + 1]]
            assert [*fabric.senders[lines], to[route]] == [start[route], *fabric.receivers[lines]]
            assert routes.narrowest()[route] == min(fabric.capacity[lines], default=np.inf)
    with pytest.raises(ValueError, match="a line has a latency of 200 s, but must have at most 100 s"):
        Fabric(("a",), 2, np.array([0]), np.array([1]), np.array([2 * 10**11]), np.ones(1))
    with pytest.raises(ValueError, match="no route leads from a to switch 2"):
        Fabric(("a", "b"), 3, *np.zeros((3, 0), np.int64), np.empty(0)).routes(np.array([0]), np.array([2]))


def test_of_parallel_lines_the_faster_one_is_taken():
    ends = np.zeros(2, np.int64), np.ones(2, np.int64)
    for latency in ([5, 1], [1, 5]):
        fabric = Fabric(("a", "b"), 2, *ends, np.array(latency), np.ones(2))
        assert fabric.routes(np.array([0]), np.array([1])).lines.tolist() == [latency.index(1)]


def test_parallel_routes_share_the_load():
    """Eight hosts a side, four switches between them, each as near as the others."""
    ends = [(host, 16 + switch) for host in range(16) for switch in range(4)]
    senders, receivers = np.array([*ends, *(end[::-1] for end in ends)]).T
    ones = np.ones(senders.size, np.int64)
    fabric = Fabric(tuple(map(str, range(16))), 20, senders, receivers, ones, np.ones(senders.size))
    to, start = (part.ravel() for part in np.indices((8, 8)))
    lines = fabric.routes(start, 8 + to).lines
    assert np.bincount(fabric.receivers[lines], minlength=20)[16:].tolist() == [16, 16, 16, 16]


def test_messages_on_shared_lines():
    """Agents 0 and 1 send over one line to 2 and 3; then 0 has a second, slower one."""
    lines = {"latency": [10, 10, 5], "capacity": [1e9, 1e9, 0.25e9]}
    routes = Routes.of_layers([np.array([0, 0]), np.array([-1, 2])], **lines)
    common = {
        "agents": 4,
        "senders": np.array([0, 1]),
        "receivers": np.array([2, 3]),
        "latency": routes.sums(routes.latency) + 100,
        "bandwidth": routes.narrowest(),
        "routes": routes,
    }
    # One is held back to 0.25 by its second line, which leaves 0.75 to the other.
    fair = Network(**common).delays(np.array([0, 1]), 3000)
    assert fair.latency.tolist() == [110, 115] and fair.transfer.tolist() == [4000, 12_000]
    assert Network(**common).delays(np.array([0]), 3000).transfer.tolist() == [3000]
    # In a queue the second waits 3000 for the first, and takes 3000 and 12,000.
    queue = Network(**common, congestion="queue").delays(np.array([0, 1]), 3000)
    assert queue.latency.tolist() == [110, 115] and queue.transfer.tolist() == [3000, 18_000]
    assert Network(**common).resources.toarray().tolist() == [[1, 1], [0, 0], [0, 1]]


def test_queues_serve_first_come_first():
    """Message 1 is on the second line when message 0 comes, which is longer on the way."""
    routes = Routes.of_layers([np.array([0, -1]), np.array([1, 1])], latency=[5, 0], capacity=[1e9, 0.5e9])
    assert store_and_forward(routes, 10).tolist() == [40, 20]


def test_tcp():
    slow = uniform_links(nx.path_graph(2), bandwidth="1 Mb/s", latency="10 ms")
    assert sum(over_tcp(slow).delays(np.array([0]), 100_000)).item() == 996_079_381
    far = over_tcp(uniform_links(nx.path_graph(2), bandwidth="100 Gb/s", latency="10 ms"), "cm02")
    assert far.latency.tolist() == [10**7] * 2 and far.bandwidth.tolist() == [4_194_304 / 0.02] * 2
    assert np.isinf(over_tcp(uniform_links(nx.path_graph(2)), "cm02").bandwidth).all()
    with pytest.raises(ValueError, match="allowed are cm02 and lv08"):
        over_tcp(slow, "reno")
