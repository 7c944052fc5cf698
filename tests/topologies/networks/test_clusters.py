"""Clusters, fat trees and rails."""

import networkx as nx
import numpy as np
import pytest

from basinet.topologies.networks import Network, fat_tree, hierarchy, rails

SIZE = 10**6
NVLINK, NIC = {"bandwidth": "100 GB/s", "latency": "1 us"}, {"bandwidth": "10 GB/s", "latency": "5 us"}


def times(network: Network, *pairs: tuple[int, int]) -> list[tuple[int, int]]:
    """Latency and transfer of messages that are sent together, in the order of the pairs."""
    found = {}
    links = network.links_between(*np.array(pairs).T)
    for link, latency, transfer in zip(links, *network.delays(links, SIZE), strict=True):
        found[int(network.senders[link]), int(network.receivers[link])] = int(latency), int(transfer)
    return [found[pair] for pair in pairs]


def test_machines_share_their_uplinks():
    cluster = hierarchy(nx.complete_graph(8), nodes=2, agents_per_node=4, inside=NVLINK, between=NIC)
    assert times(cluster, (0, 1)) == [(1000, 10_000)]
    assert times(cluster, (0, 4)) == [(5000, 100_000)]
    # Four messages leave through one uplink; the one inside does not mind.
    assert times(cluster, (0, 4), (1, 5), (2, 6), (3, 7), (0, 1)) == [(5000, 400_000)] * 4 + [(1000, 10_000)]
    # Both directions at once: full duplex.
    assert times(cluster, (0, 4), (4, 0)) == [(5000, 100_000)] * 2
    # An agent's own line inside is shared by its neighbours there.
    assert times(cluster, (0, 1), (0, 2)) == [(1000, 20_000)] * 2
    double = hierarchy(nx.complete_graph(8), nodes=2, agents_per_node=4, inside=NVLINK, between=NIC, uplinks=2)
    assert times(double, (0, 4)) == [(5000, 100_000)] and times(double, (0, 4), (1, 5), (2, 6), (3, 7))[0][1] == 200_000


def test_who_sits_where_decides_what_crosses():
    ring = nx.cycle_graph(8)
    cluster = {"nodes": 2, "agents_per_node": 4, "inside": NVLINK, "between": NIC}
    every = slice(None)
    blocks = hierarchy(ring, **cluster)
    spread = hierarchy(ring, **cluster, hosts=[0, 4, 1, 5, 2, 6, 3, 7])
    # Two edges of the ring leave a machine, or all eight.
    assert blocks.delays(np.arange(16)[every], SIZE).transfer.max() == 200_000
    assert spread.delays(np.arange(16)[every], SIZE).transfer.tolist() == [800_000] * 16
    few = hierarchy(nx.path_graph(2), **cluster, hosts=["7", 0])
    assert times(few, (0, 1)) == [(5000, 100_000)]
    with pytest.raises(ValueError, match="two agents sit at 1, but each needs a place of its own"):
        hierarchy(nx.path_graph(2), **cluster, hosts=[1, 1])
    with pytest.raises(ValueError, match=r"there is no place 8; allowed are 0, 1, 2, 3, 4, … \(8 in all\)"):
        hierarchy(nx.path_graph(2), **cluster, hosts=[0, 8])
    with pytest.raises(ValueError, match="the network has 8 places and the graph 9 agents"):
        hierarchy(nx.path_graph(9), **cluster)
    with pytest.raises(ValueError, match="hosts has 1 places, but there are 2 agents"):
        hierarchy(nx.path_graph(2), **cluster, hosts=[0])


@pytest.mark.parametrize("uplinks", [1, 2, 4])
def test_an_oversubscribed_leaf_divides_its_uplinks(uplinks):
    """Four hosts on u uplinks, all sending to the other leaf: each has B u/p."""
    line = {"bandwidth": "10 GB/s", "latency": "1 us"}
    tree = fat_tree(nx.complete_graph(8), leaves=2, hosts_per_leaf=4, uplinks=uplinks, host=line, spine=line)
    out = [(host, host + 4) for host in range(4)]
    assert times(tree, *out) == [(4000, 100_000 * 4 // uplinks)] * 4
    assert times(tree, (0, 1)) == [(2000, 100_000)] and times(tree, (0, 4)) == [(4000, 100_000)]
    assert times(tree, (0, 1), (2, 1)) == [(2000, 200_000)] * 2


def test_rails():
    """Two servers of four GPUs: GPU j of each on rail j."""
    servers = {"nodes": 2, "agents_per_node": 4, "inside": NVLINK, "between": NIC}
    network = rails(nx.complete_graph(8), **servers)
    same_rail = [(gpu, gpu + 4) for gpu in range(4)]
    assert times(network, *same_rail) == [(5000, 100_000)] * 4
    # To another rail: inside first, then the line of that rail's GPU, which two messages share here.
    assert times(network, (0, 5)) == [(6000, 100_000)]
    assert times(network, (0, 5), (1, 5)) == [(6000, 200_000), (5000, 200_000)]
    assert times(network, (0, 1)) == [(1000, 10_000)]
    # Over the spine: the messages leave through their own GPUs' lines and meet at the uplink of the leaf.
    spine = rails(nx.complete_graph(8), **servers, spine={"bandwidth": "5 GB/s", "latency": "2 us"})
    assert times(spine, (0, 5)) == [(7000, 200_000)]
    assert times(spine, (0, 5), (1, 6)) == [(7000, 200_000)] * 2
    assert times(spine, (0, 5), (0, 6)) == [(7000, 400_000)] * 2
    assert times(spine, *same_rail) == [(5000, 100_000)] * 4


def test_one_message_passes_one_uplink():
    """However many there are; and where lines inside are the slower ones, messages meet on them."""
    fast, slow = {"bandwidth": "10 GB/s"}, {"bandwidth": "5 GB/s"}
    tree = fat_tree(nx.complete_graph(8), leaves=2, hosts_per_leaf=4, uplinks=4, host=fast, spine=slow)
    assert times(tree, (0, 4)) == [(0, 200_000)]
    servers = {"nodes": 2, "agents_per_node": 4, "between": fast}
    spine = rails(nx.complete_graph(8), **servers, inside=NVLINK, spine=slow, uplinks=2)
    assert times(spine, (0, 5)) == [(0, 200_000)]
    single = rails(nx.complete_graph(8), **servers, inside=NVLINK, spine=slow)
    assert times(single, (0, 5), (2, 5)) == [(0, 400_000)] * 2  # down to the leaf of rail 1
    inside = rails(nx.complete_graph(8), **servers, inside=slow)
    assert times(inside, (0, 5), (2, 1)) == [(0, 400_000)] * 2  # both into GPU 1


def test_a_wrong_setting_is_named():
    cluster = {"nodes": 2, "agents_per_node": 2, "inside": NVLINK, "between": NIC}
    with pytest.raises(ValueError, match="hierarchy: uplinks is 0, but must lie in"):
        hierarchy(nx.path_graph(4), **cluster, uplinks=0)
    with pytest.raises(ValueError, match=r"hierarchy: there would be 4,000,000 places, but allowed are 1 to 1,000,000"):
        hierarchy(nx.path_graph(4), **(cluster | {"nodes": 2_000_000}))
    with pytest.raises(ValueError, match="rails: inside: got 10; a bandwidth needs a number and a unit"):
        rails(nx.path_graph(4), **(cluster | {"inside": {"bandwidth": 10}}))
