"""Networks read from files."""

import networkx as nx
import numpy as np
import pytest

from basinet.topologies.networks import NETWORKS, Network, great_circle, latency_of, transfer

TWO = nx.path_graph(2)


def write(folder, name: str, text: str) -> str:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return str(file)


def link(network: Network, sender: int, receiver: int) -> tuple[int, float]:
    place = network.links_between(np.array([sender]), np.array([receiver]))
    return int(network.latency[place][0]), float(network.bandwidth[place][0])


def test_astra_sim(tmp_path):
    """The numbers of its own unit tests: 1 MiB at 50 GiB/s and 500 ns, from NPU 1 to NPU 4 of 16."""
    found = {}
    for shape in ("Ring", "FullyConnected", "Switch"):
        text = f"topology: [{shape}]\nnpus_count: [16]\nbandwidth: [50]\nlatency: [500]\n"
        file = write(tmp_path, f"{shape}.yml", text)
        for contention in ("none", "queue"):
            network = NETWORKS["astra"](nx.empty_graph(16), path=file, contention=contention, complete=True)
            alone = network.delays(network.links_between(np.array([1]), np.array([4])), 1_048_576)
            found[shape, contention] = sum(alone).item()
            together = network.delays(np.arange(240), 1_048_576)
            found[shape, contention, "all"] = int(sum(together).max())
    assert found["Ring", "none"] == 21_031
    assert found["FullyConnected", "none"] == 20_031
    assert found["Switch", "none"] == 20_531
    assert found["Ring", "queue"] == 60_093
    assert found["Switch", "queue"] == 40_062
    assert found["Ring", "queue", "all"] == 704_116
    assert found["FullyConnected", "queue", "all"] == 20_031


def test_astra_sim_crosses_one_dimension_after_the_other(tmp_path):
    text = "topology: [Ring, FullyConnected]\nnpus_count: [4, 3]\nbandwidth: [100, 25]\nlatency: [200, 900]"
    network = NETWORKS["astra"](
        nx.empty_graph(12), path=write(tmp_path, "a.yml", text), contention="fair", complete=True
    )
    assert link(network, 0, 3) == (200, 100 * 2**30)
    assert link(network, 0, 2) == (400, 100 * 2**30)
    assert link(network, 0, 8) == (900, 25 * 2**30)
    assert link(network, 10, 5) == (200 + 900, 25 * 2**30)
    # From (1, 0) and (2, 0) to (0, 1): both take the line from (0, 0) to (0, 1).
    links = network.links_between(np.array([1, 2]), np.array([4, 4]))
    assert network.delays(links, 10**6).transfer.tolist() == [transfer(2 * 10**6, 25 * 2**30)] * 2


SIMAI = "5 2 1 2 5 H100\n2 3 4\n0 2 2880Gbps 0.000025ms 0\n1 2 2880Gbps 0.000025ms 0\n"
SIMAI += "0 3 400Gbps 0.0005ms 0\n1 3 400Gbps 0.0005ms 0.5\n3 4 400Gbps 0.0005ms 0\n"


def test_simai_and_hpcc(tmp_path):
    network = NETWORKS["simai"](TWO, path=write(tmp_path, "simai", SIMAI))
    assert link(network, 0, 1) == (50, 360e9) and network.loss.tolist() == [0, 0]
    # The same without the NVLink switch, whose number is below those of the hosts; the line to agent 1 loses half.
    hpcc = "4 2 3\n0 3\n1 0 400Gbps 0.0005ms 0\n2 0 100Gbps 0.0015ms 0.5\n0 3 400Gbps 0.0005ms 0\n"
    network = NETWORKS["simai"](TWO, path=write(tmp_path, "hpcc", hpcc))
    assert link(network, 0, 1) == (2000, 12.5e9) and network.loss.tolist() == [0.5, 0.5]
    assert network.names == ("1", "2")


GML = """graph [ node [ id 0 label "A" Latitude 0.0 Longitude 0.0 ] node [ id 1 label "B" Latitude 0.0 Longitude 90.0 ]
node [ id 2 label "C" ] edge [ source 0 target 1 bandwidth "1 Gb/s" ]
edge [ source 1 target 2 capacity 500000000.0 distance 1000.0 loss 0.1 ] ]"""


def test_underlays(tmp_path):
    file = write(tmp_path, "u.gml", GML)
    graph = nx.complete_graph(3)
    access = {"up": "1 GB/s", "down": "1 GB/s", "sharing": "fair"}
    network = NETWORKS["underlay"](graph, path=file, propagation="internet", access=access)
    quarter = int(latency_of(great_circle(0, 0, 0, 90), "internet"))
    assert link(network, 0, 1) == (quarter + 4_000_000, 1.25e8)
    # Over B, both ways, once 4 ms.
    assert link(network, 0, 2) == link(network, 2, 0) == (quarter + 8_500_000 + 4_000_000, 6.25e7)
    assert network.loss[network.links_between(np.array([0]), np.array([2]))].tolist() == [1 - 0.9]
    # A and B send to C at once over one line; two messages enter C.
    both = network.links_between(np.array([0, 1]), np.array([2, 2]))
    assert network.delays(both, 10**6).transfer.tolist() == [2 * 16_000_000] * 2
    alone = NETWORKS["underlay"](graph, path=file, contention="none")
    assert alone.delays(both, 10**6).transfer.tolist() == [16_000_000] * 2
    hops = NETWORKS["underlay"](graph, path=file, contention="hops")
    assert link(hops, 0, 2)[1] == 6.25e7 / 2
    digraph = nx.DiGraph()
    digraph.add_edge("A", "B", latency="2 ms", bandwidth="1 GB/s")
    digraph.add_edge("B", "A", latency="3 ms")
    nx.write_graphml(digraph, tmp_path / "d.graphml")
    directed = NETWORKS["underlay"](TWO, path=tmp_path / "d.graphml", bandwidth="8 b/s")
    assert link(directed, 0, 1) == (2_000_000, 1e9) and link(directed, 1, 0) == (3_000_000, 1.0)


def test_tables_of_links(tmp_path):
    text = "# measured\nsender,receiver,latency,bandwidth,loss\nA,B,3 ms,1 Gb/s,1 %\nB,A,5 ms,inf,\nB,C,1 us,1 GB/s,\n"
    file = write(tmp_path, "links.csv", text)
    network = NETWORKS["links"](nx.DiGraph([("B", "A"), ("A", "B")]), path=file)
    assert network.names == ("B", "A") and network.loss.tolist() == [0.01, 0]
    assert link(network, 0, 1) == (5_000_000, np.inf) and link(network, 1, 0) == (3_000_000, 1.25e8)
    with pytest.raises(ValueError, match="links: there is no link from C to B, over which agents send"):
        NETWORKS["links"](nx.path_graph(["A", "B", "C"]), path=file)


def test_matrices_of_latencies(tmp_path):
    file = write(tmp_path, "rtt.csv", ",Tokyo,Osaka\nTokyo,,9\nOsaka,8,0.5\n")
    settings = {"path": file, "unit": "ms", "bandwidth": "1 Gb/s"}
    assert NETWORKS["latencies"](TWO, kind="rtt", **settings).latency.tolist() == [4_000_000, 4_500_000]
    one_way = NETWORKS["latencies"](TWO, kind="one_way", **settings)
    assert link(one_way, 0, 1) == (9_000_000, 1.25e8) and link(one_way, 1, 0) == (8_000_000, 1.25e8)


def test_positions(tmp_path):
    """A quarter of the Earth at 2/3 of the speed of light: 10,007.557 km at 199,861.64 km/s."""
    file = write(tmp_path, "places.csv", "name,latitude,longitude\nA,0,0\nB,90,0\n")
    network = NETWORKS["positions"](TWO, path=file, bandwidth="1 Gb/s")
    assert network.latency.tolist() == pytest.approx([10_007.557 / 199_861.64 * 1e9] * 2, rel=1e-6)
    internet = NETWORKS["positions"](TWO, path=file, bandwidth="1 Gb/s", propagation="internet")
    assert internet.latency.tolist() == pytest.approx([10_007.557 * 8500 + 4e6] * 2, rel=1e-6)
    # Berlin to Tokyo, of which atlases say 8,900 to 8,950 km.
    assert 8_900 < great_circle(52.52, 13.405, 35.69, 139.69) < 8_950


ASTRA = "topology: [Ring]\nnpus_count: [2]\nbandwidth: [50]\nlatency: [1]\n"
LINKS = "sender,receiver,latency,bandwidth\n"


@pytest.mark.parametrize(
    ("network", "name", "text", "message"),
    [
        ("astra", "a.yml", ASTRA.replace("Ring", "Torus"), "names the topology 'Torus'; allowed are Ring"),
        ("astra", "a.yml", ASTRA.replace("[2]", "[2, 2]"), "of the same length"),
        ("astra", "a.yml", ASTRA.replace("[50]", "[fast]"), "gives bandwidth 'fast'"),
        ("astra", "a.yml", ASTRA.replace("[2]", "[0]"), "npus_count 0, but it must be at least 1"),
        ("astra", "a.yml", ASTRA.replace("[2]", "[true]"), "npus_count True, but it must be at least 1"),
        ("astra", "a.yml", ASTRA.replace("[1]", "[.inf]"), "gives latency inf, but it must be a number from 0 to 1e"),
        ("astra", "a.yml", ASTRA.replace("[50]", "[0]"), "gives bandwidth 0, but it must be a number from 1e-09"),
        ("astra", "a.yml", ASTRA.replace("[2]", "[2000000]"), "there would be 2,000,000 places, but allowed are 1 to"),
        (
            "astra",
            "a.yml",
            ASTRA.replace("Ring", "FullyConnected").replace("[2]", "[4000]"),
            "16,000,000 edges",
        ),
        ("astra", "a.yml", "topology: Ring", "must hold the lists topology, npus_count"),
        ("astra", "a.yml", "{", "is not a YAML file"),
        ("simai", "s", "5 2\n", "line 1 of"),
        ("simai", "s", SIMAI.replace("2880Gbps", "2880"), "line 3 of .*got '2880'; a bandwidth needs"),
        ("simai", "s", SIMAI.replace("2 3 4", "2 3"), "there must be the numbers of 3 switches"),
        ("simai", "s", SIMAI.replace("2 3 4", "2 3 ²"), "line 2 of .*there must be the numbers of 3 switches"),
        ("simai", "s", SIMAI.replace("5 2 1", "5000000000 2 1"), "there would be 5,000,000,000 places"),
        ("simai", "s", SIMAI + "0 1 1Gbps 1ms 0\n", "says that there are 5 lines, but holds 6"),
        ("simai", "s", SIMAI.replace("3 4 400", "3 9 400"), "line 7 of .*there is no node 9"),
        ("simai", "s", SIMAI.replace("3 4 400", "3 4 0 400"), "must hold `node node bandwidth latency loss`"),
        ("underlay", "u.gml", GML, "the edge of A and B .* has no bandwidth|2 agents"),
        ("underlay", "u.gml", "graph [ node ]", "is not a GML file"),
        ("underlay", "u.txt", GML, "must end in .gml or .graphml"),
        ("underlay", "u.gml", GML.replace("distance", "length"), "the edge of B and C .* needs a latency with a unit"),
        ("underlay", "u.gml", GML.replace('"1 Gb/s"', "10"), "the edge of A and B .*bandwidth: got 10;"),
        ("links", "l.csv", "sender,receiver\n", "must be sender, receiver, latency, bandwidth, and may be loss"),
        ("links", "l.csv", "", "are missing, but must be sender"),
        ("links", "l.csv", LINKS + "A,B,3,1 Gb/s\n", "line 2 of .*got '3'; a time needs a number and a unit"),
        ("links", "l.csv", LINKS + "A,B,3 ms,1 Gb/s\n" * 2, "line 3 of .*from A to B stands twice"),
        ("links", "l.csv", LINKS + "A,A,3 ms,1 Gb/s\n", "A sends to itself"),
        ("links", "l.csv", LINKS + "A,B,3 ms\n", "there are 3 values, but 4 columns"),
        ("links", "l.csv", LINKS + "A,B,,1 Gb/s\n", "there is no latency"),
        (
            "positions",
            "p.csv",
            "name,latitude,longitude\nA,91,0\n",
            "line 2 of .*got '91', but it must be a number from",
        ),
        ("positions", "p.csv", "name,latitude,longitude\nA,1,0\nA,1,0\n", "the place A stands twice"),
        ("latencies", "m.csv", ",A,B\nA,0,1\nC,1,0\n", "must name the same sites"),
        ("latencies", "m.csv", ",A,B\nA,0,x\nB,1,0\n", "line 2 of .*'x' is not a time in ms"),
        ("latencies", "m.csv", ",A,B\nA,0\nB,1,0\n", "there are 1 numbers, but 2 sites"),
        ("latencies", "m.csv", ",A,B\nA,0,\nB,1,0\n", "there is no link from A to B"),
        ("latencies", "absent.csv", None, "cannot be read"),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence(tmp_path, network, name, text, message):
    file = tmp_path / name if text is None else write(tmp_path, name, text)
    settings = {"latencies": {"kind": "rtt", "unit": "ms"}, "positions": {"bandwidth": "inf"}}.get(network, {})
    with pytest.raises(ValueError, match=message) as caught:
        NETWORKS[network](TWO, path=file, **settings)
    assert "\n" not in str(caught.value)
