"""Facts about the graphs themselves."""

import inspect
import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basinet.topologies import (
    POLICIES,
    TOPOLOGIES,
    GraphSequence,
    barabasi_albert,
    barbell,
    caterpillar,
    check_mixing_matrix,
    clusters,
    complete,
    davis,
    eigenvalues,
    equitopo,
    erdos_renyi,
    exponential,
    florentine,
    grid,
    hypercube,
    karate,
    lollipop,
    margulis,
    metropolis,
    mixing_rate,
    newman_watts,
    paley,
    path,
    random_geometric,
    random_regular,
    ring,
    star,
    torus,
    tree,
    uniform,
    watts_strogatz,
    weights,
    wheel,
)

READ = {"edge_list", "adjacency_list", "adjacency_matrix", "graphml"}
OBSERVED = {"karate": 34, "davis": 32, "florentine": 15}
SEQUENCES = {name for name in TOPOLOGIES if inspect.signature(TOPOLOGIES[name]).return_annotation is GraphSequence}
GENERATED = {name: family for name, family in TOPOLOGIES.items() if name not in READ | set(OBSERVED) | SEQUENCES}
RANDOM = [name for name in GENERATED if "seed" in inspect.signature(GENERATED[name]).parameters]
SIZES = {"hypercube": [1, 2, 4, 8, 16], "margulis": [1, 4, 9, 16, 25], "paley": [5, 13, 17, 29]}


def family_settings(name, num_agents):
    """Settings with which a family has a graph of any size."""
    return {
        "random_regular": {"degree": min(2 + num_agents % 2 * 2, num_agents - 1)},
        "clusters": {"clusters": min(4, num_agents)},
        "watts_strogatz": {"neighbors": 2 if num_agents < 5 else 4},
        "newman_watts": {"neighbors": 2 if num_agents < 5 else 4},
        "barabasi_albert": {"links": 1 if num_agents < 3 else 2},
    }.get(name, {})


def cases():
    for name in GENERATED:
        for num_agents in SIZES.get(name, [1, 2, 3, 4, 7, 8, 16, 17]):
            if num_agents >= {"watts_strogatz": 3, "newman_watts": 3, "barabasi_albert": 2}.get(name, 1):
                yield name, num_agents


@pytest.mark.parametrize(("name", "num_agents"), list(cases()))
def test_nodes_are_numbered_in_order_and_connected(name, num_agents):
    graph = GENERATED[name](num_agents, **family_settings(name, num_agents))
    assert list(graph) == list(range(num_agents))
    assert nx.number_of_selfloops(graph) == 0
    assert not graph.is_multigraph()
    assert nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph)


@pytest.mark.parametrize("name", GENERATED)
def test_a_graph_needs_an_agent(name):
    with pytest.raises(ValueError, match=f"^{name}: num_agents is 0, but must be at least 1$"):
        GENERATED[name](0)


@pytest.mark.parametrize("component", [*TOPOLOGIES.values(), *POLICIES.values()])
def test_signatures_follow_the_convention(component):
    first, *settings = inspect.signature(component).parameters.values()
    assert first.name in {"num_agents", "graph"}
    assert first.default is first.empty
    assert all(setting.kind is setting.KEYWORD_ONLY for setting in settings)
    assert not any(isinstance(setting.annotation, str) for setting in [first, *settings])


@pytest.mark.parametrize("name", [*TOPOLOGIES, *POLICIES])
def test_registries_know_components_by_their_name(name):
    assert (TOPOLOGIES | POLICIES)[name].__name__ == name


def test_degrees():
    assert set(dict(ring(7).degree).values()) == {2}
    assert sorted(dict(path(7).degree).values()) == [1, 1, 2, 2, 2, 2, 2]
    assert sorted(dict(star(7).degree).values()) == [1] * 6 + [6]
    assert set(dict(complete(7).degree).values()) == {6}
    assert set(dict(torus(20).degree).values()) == {4}
    assert set(dict(hypercube(32).degree).values()) == {5}
    assert set(dict(random_regular(30, degree=5).degree).values()) == {5}
    assert set(dict(exponential(16).in_degree).values()) == {4}


@pytest.mark.parametrize(
    ("shape", "edges"), [((6,), 5), ((2, 3), 7), ((3, 2), 7), ((1, 6), 5), ((2, 1, 3), 7), ((6, 1), 5)]
)
def test_grid_shapes(shape, edges):
    graph = grid(6, shape=shape)
    assert graph.number_of_edges() == edges
    assert list(graph) == list(range(6))


def test_grid_is_numbered_row_by_row():
    assert sorted(grid(24, shape=(2, 3, 4))[0]) == [1, 4, 12]
    assert sorted(torus(60, shape=(3, 4, 5))[0]) == [1, 4, 5, 15, 20, 40]


def test_default_shape_is_the_most_square():
    assert nx.is_isomorphic(grid(12), nx.grid_2d_graph(3, 4))
    assert nx.is_isomorphic(grid(16), nx.grid_2d_graph(4, 4))
    assert nx.is_isomorphic(grid(7), path(7))
    assert nx.is_isomorphic(torus(7), ring(7))


def test_identities():
    assert nx.utils.graphs_equal(torus(9, shape=[9]), ring(9))
    assert nx.utils.graphs_equal(torus(16, shape=[2, 2, 2, 2]), hypercube(16))
    assert nx.is_isomorphic(torus(16), hypercube(16))
    assert nx.is_isomorphic(hypercube(16), nx.hypercube_graph(4))
    assert nx.is_isomorphic(torus(12, shape=(2, 6)), nx.circular_ladder_graph(6))
    assert nx.utils.graphs_equal(exponential(3), complete(3).to_directed())
    assert nx.utils.graphs_equal(erdos_renyi(9, probability=1), complete(9))
    assert nx.utils.graphs_equal(random_regular(9, degree=8), complete(9))


@pytest.mark.parametrize("num_agents", [5, 12, 16, 17])
def test_exponential_edges(num_agents):
    hops = [2**j for j in range(math.ceil(math.log2(num_agents)))]
    expected = {(k, (k + hop) % num_agents) for k in range(num_agents) for hop in hops}
    assert set(exponential(num_agents).edges) == expected


@pytest.mark.parametrize("name", RANDOM)
def test_random_graphs_follow_their_seed(name):
    family = GENERATED[name]
    assert nx.utils.graphs_equal(family(40, seed=3), family(40, seed=3))
    assert not nx.utils.graphs_equal(family(40, seed=3), family(40, seed=4))
    with pytest.raises(ValueError, match=r"^the seed of a random graph is -1, but must not be negative$"):
        family(40, seed=-1)


def test_sparse_random_graphs_are_drawn_until_connected():
    assert all(nx.is_connected(erdos_renyi(20, probability=0.12, seed=seed)) for seed in range(20))
    assert all(nx.is_connected(random_regular(8, degree=2, seed=seed)) for seed in range(20))


def test_erdos_renyi_default_probability():
    edges = erdos_renyi(1000).number_of_edges()
    mean = 999 * math.log(1000)
    assert abs(edges - mean) < 5 * math.sqrt(mean)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: hypercube(12), "hypercube: num_agents is 12, but must be a power of two, such as 8 or 16"),
        (
            lambda: grid(12, shape=(5, 2)),
            "grid: shape is [5, 2], but its sides must be positive with the product 12",
        ),
        (lambda: torus(4, shape=(-2, -2)), "torus: shape is [-2, -2], but its sides must be positive"),
        (lambda: erdos_renyi(5, probability=1.5), "erdos_renyi: probability is 1.5, but must lie in (0, 1]"),
        (lambda: erdos_renyi(5, probability=0), "erdos_renyi: probability is 0, but must lie in (0, 1]"),
        (
            lambda: erdos_renyi(50, probability=0.01),
            "erdos_renyi: none of 100 graphs drawn with probability 0.01 for 50 agents was connected; "
            "raise the probability above ln K / K = 0.0782",
        ),
        (
            lambda: random_regular(4),
            "random_regular: degree is 4, but must lie between 2 and 3 for a connected",
        ),
        (lambda: random_regular(6, degree=1), "random_regular: degree is 1, but must lie between 2 and 5"),
        (lambda: random_regular(7, degree=3), "random_regular: no graph of 7 agents has the odd degree 3"),
        (lambda: tree(5, branching=0), "tree: branching is 0, but must be at least 1"),
        (lambda: caterpillar(5, spine=6), "caterpillar: spine is 6, but must lie between 1 and 5, all agents"),
        (
            lambda: barbell(6, bridge=3),
            "barbell: bridge is 3, but must leave an even number of the 6 agents for two clusters",
        ),
        (lambda: barbell(6, bridge=8), "barbell: bridge is 8, but must leave"),
        (lambda: lollipop(5, tail=5), "lollipop: tail is 5, but must lie between 0 and 4, all agents but one"),
        (lambda: clusters(3), "clusters: clusters is 4, but must lie between 1 and 3, one agent each"),
        (lambda: clusters(9, bridges=3), "clusters: bridges is 3, but must lie between 1 and 2, the agents of the"),
        (lambda: margulis(15), "margulis: num_agents is 15, but must be a square, such as 9 or 16"),
        (lambda: paley(15), "paley: num_agents is 15, but must be a prime of the form 4 m + 1, such as 13 or 17"),
        (lambda: paley(9), "paley: num_agents is 9, but must be a prime of the form 4 m + 1, such as 5 or 13"),
        (lambda: paley(1), "paley: num_agents is 1, but must be a prime of the form 4 m + 1, such as 5 or 13"),
        (lambda: watts_strogatz(9, neighbors=3), "watts_strogatz: neighbors is 3, but must be even and at least 2"),
        (lambda: newman_watts(4), "newman_watts: num_agents is 4, but must be above 4, the number of neighbors"),
        (lambda: newman_watts(9, probability=2), "newman_watts: probability is 2, but must lie in [0, 1]"),
        (lambda: barabasi_albert(9, links=0), "barabasi_albert: links is 0, but must be at least 1"),
        (lambda: barabasi_albert(2), "barabasi_albert: num_agents is 2, but must be above 2, the number of links"),
        (lambda: random_geometric(9, radius=-1), "random_geometric: radius is -1, but must be positive"),
        (lambda: random_geometric(9, radius=math.nan), "random_geometric: radius is nan, but must be positive"),
        (
            lambda: random_geometric(100, radius=0.05),
            "random_geometric: none of 100 graphs drawn with radius 0.05 for 100 agents was connected; raise the "
            "radius above sqrt(ln K / (pi K)) = 0.121",
        ),
        (
            lambda: equitopo(9, shifts=9),
            "equitopo: shifts is 9, but must lie between 1 and 8 for a directed graph of 9 agents",
        ),
        (
            lambda: equitopo(9, shifts=5, directed=False),
            "equitopo: shifts is 5, but must lie between 1 and 4 for an undirected graph of 9 agents",
        ),
        (
            lambda: karate(16),
            "karate: num_agents is 16, but this network has 34 agents; give 34 or leave the number out",
        ),
    ],
)
def test_mistakes_are_one_sentence(build, sentence):
    with pytest.raises(ValueError) as caught:
        build()
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: random_regular(40, degree=2), "random_regular: none of 100 graphs drawn with degree 2 for 40 agents"),
        (lambda: watts_strogatz(40), "watts_strogatz: none of 100 graphs drawn with 4 neighbors and probability 0.1"),
        (lambda: equitopo(40), "equitopo: none of 100 graphs drawn with 6 shifts for 40 agents was connected; raise"),
    ],
)
def test_families_give_up(monkeypatch, build, sentence):
    monkeypatch.setattr("basinet.topologies._build.ATTEMPTS", 0)
    with pytest.raises(ValueError, match=f"^{sentence}"):
        build()


@pytest.mark.parametrize("num_agents", [4, 9, 16])
def test_wheel(num_agents):
    graph = wheel(num_agents)
    assert graph.degree[0] == num_agents - 1
    assert {graph.degree[k] for k in range(1, num_agents)} == {3}
    rim = 3 - 2 * np.cos(2 * np.pi * np.arange(1, num_agents - 1) / (num_agents - 1))
    spectrum = nx.laplacian_spectrum(graph)
    np.testing.assert_allclose(np.sort(spectrum), np.sort([0, num_agents, *rim]), rtol=0, atol=1e-10)


@given(num_agents=st.integers(1, 40), branching=st.integers(1, 5))
def test_trees(num_agents, branching):
    graph = tree(num_agents, branching=branching)
    assert nx.is_tree(graph)
    assert all(len([v for v in graph[k] if v > k]) <= branching for k in graph)
    assert nx.utils.graphs_equal(graph, nx.full_rary_tree(branching, num_agents)) or branching == 1
    assert nx.utils.graphs_equal(tree(num_agents, branching=1), path(num_agents))


@given(num_agents=st.integers(1, 40), data=st.data())
def test_caterpillars(num_agents, data):
    spine = data.draw(st.integers(1, num_agents))
    graph = caterpillar(num_agents, spine=spine)
    assert nx.is_tree(graph)
    assert nx.utils.graphs_equal(nx.Graph(graph.subgraph(range(spine))), path(spine))
    assert {graph.degree[k] for k in range(spine, num_agents)} <= {1}
    leaves = [sum(v >= spine for v in graph[k]) for k in range(spine)]
    assert max(leaves) - min(leaves) <= 1


def test_shapes_between_families():
    assert nx.utils.graphs_equal(caterpillar(7, spine=1), star(7))
    assert nx.utils.graphs_equal(caterpillar(7, spine=7), path(7))
    assert nx.utils.graphs_equal(barbell(11, bridge=3), nx.barbell_graph(4, 3))
    assert nx.utils.graphs_equal(barbell(5, bridge=5), path(5))
    assert nx.utils.graphs_equal(lollipop(9, tail=4), nx.lollipop_graph(5, 4))
    assert nx.utils.graphs_equal(lollipop(5, tail=0), complete(5))
    assert nx.utils.graphs_equal(clusters(7, clusters=1), complete(7))
    assert nx.utils.graphs_equal(clusters(7, clusters=7), ring(7))
    assert nx.utils.graphs_equal(clusters(8, clusters=2), barbell(8))
    assert nx.utils.graphs_equal(margulis(4), torus(4))
    assert nx.utils.graphs_equal(paley(5), ring(5))
    assert nx.utils.graphs_equal(watts_strogatz(9, neighbors=2, probability=0), ring(9))
    assert nx.utils.graphs_equal(newman_watts(9, neighbors=8), complete(9))


def test_barbell_counts():
    graph = barbell(20)
    assert graph.number_of_edges() == 2 * 45 + 1
    assert sorted(dict(graph.degree).values()) == [9] * 18 + [10] * 2
    assert nx.diameter(graph) == 3
    assert list(nx.bridges(graph)) == [(9, 10)]


@given(num_agents=st.integers(1, 40), data=st.data())
def test_clusters_are_complete_and_bridged(num_agents, data):
    count = data.draw(st.integers(1, num_agents))
    bridges = data.draw(st.integers(1, num_agents // count))
    graph = clusters(num_agents, clusters=count, bridges=bridges)
    bounds = np.arange(count + 1) * num_agents // count
    cluster = np.searchsorted(bounds, np.arange(num_agents), side="right") - 1
    inside = sum(cluster[u] == cluster[v] for u, v in graph.edges)
    assert inside == sum(math.comb(size, 2) for size in np.bincount(cluster))
    joints = {1: 0, 2: 1}.get(count, count)
    assert graph.number_of_edges() - inside == bridges * joints
    assert nx.is_connected(graph)


@pytest.mark.parametrize("num_agents", [5, 13, 29, 61])
def test_paley_spectrum(num_agents):
    values = np.sort(nx.adjacency_spectrum(paley(num_agents)).real)
    half = (num_agents - 1) // 2
    expected = [*[(-1 - math.sqrt(num_agents)) / 2] * half, *[(-1 + math.sqrt(num_agents)) / 2] * half, half]
    np.testing.assert_allclose(values, np.sort(expected), rtol=0, atol=1e-10)
    squares = {k * k % num_agents for k in range(1, num_agents)}
    assert all(((u - v) % num_agents in squares) == paley(num_agents).has_edge(u, v) for u, v in [(0, 1), (2, 4)])


@pytest.mark.parametrize("n", [3, 4, 5, 8, 12, 20])
def test_margulis_gap(n):
    graph = margulis(n * n)
    multigraph = nx.convert_node_labels_to_integers(nx.margulis_gabber_galil_graph(n), ordering="sorted")
    simple = nx.Graph(multigraph)
    simple.remove_edges_from(list(nx.selfloop_edges(simple)))
    assert nx.utils.edges_equal(graph.edges, simple.edges)
    assert np.sort(nx.adjacency_spectrum(multigraph).real)[-2] <= 5 * math.sqrt(2)
    assert np.sort(nx.laplacian_spectrum(graph))[1] >= (8 - 5 * math.sqrt(2)) / 2
    assert np.sort(eigenvalues(metropolis(graph)))[-2] <= 1 - (8 - 5 * math.sqrt(2)) / 18


def test_random_geometric_joins_exactly_those_within_reach():
    graph = random_geometric(60, radius=0.3, seed=2)
    places = np.array([graph.nodes[k]["pos"] for k in graph])
    assert ((places >= 0) & (places < 1)).all()
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    expected = (distance <= 0.3) & ~np.eye(60, dtype=bool)
    np.testing.assert_array_equal(nx.to_numpy_array(graph), expected)


def test_random_geometric_default_radius():
    degrees = [degree for _, degree in random_geometric(2000).degree]
    # Near the border an agent sees fewer.
    assert 0.85 * 2 * math.log(2000) < np.mean(degrees) < 2 * math.log(2000)


def test_small_worlds():
    rewired = watts_strogatz(400, neighbors=6, probability=0.2)
    assert rewired.number_of_edges() == 1200
    added = newman_watts(400, neighbors=6, probability=0.2)
    lattice = watts_strogatz(400, neighbors=6, probability=0)
    assert set(dict(lattice.degree).values()) == {6}
    assert set(lattice.edges) < set(added.edges)
    assert 150 < added.number_of_edges() - 1200 < 320
    assert nx.average_shortest_path_length(rewired) < nx.average_shortest_path_length(lattice) / 4


def test_barabasi_albert_has_hubs():
    graph = barabasi_albert(1000, links=3)
    degrees = sorted(dict(graph.degree).values())
    assert graph.number_of_edges() == 3 * 997
    assert degrees[0] >= 1 and degrees[500] <= 5 and degrees[-1] > 50


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("num_agents", [1, 2, 3, 9, 10, 16])
def test_equitopo_is_circulant_with_the_papers_weights(num_agents, directed):
    most = num_agents - 1 if directed else num_agents // 2
    for count in range(min(1, most), most + 1):
        graph = equitopo(num_agents, shifts=count, directed=directed, seed=count)
        assert graph.is_directed() == directed
        shifts = [(v - u) % num_agents for u, v in graph.edges if u == 0]
        one_way = [u for u in shifts if directed or 2 * u <= num_agents]
        turns = [np.roll(np.eye(num_agents), u, axis=0) for u in one_way]
        if not directed:
            turns = [(turn + turn.T) / 2 for turn in turns]
        if num_agents > 1:
            assert len(one_way) == count
            share = (num_agents - 1) / num_agents
            expected = sum(share * turn + np.eye(num_agents) / num_agents for turn in turns) / count
            np.testing.assert_allclose(weights(graph).toarray(), expected, rtol=0, atol=1e-14)


def test_equitopo_mixes_no_worse_when_it_grows():
    rates = [mixing_rate(uniform(equitopo(num_agents, seed=1))) for num_agents in (64, 256, 1000)]
    assert max(rates) < 0.9
    assert mixing_rate(metropolis(equitopo(1000, directed=False))) < 0.9


@pytest.mark.parametrize(("family", "num_agents", "edges"), [(karate, 34, 78), (davis, 32, 89), (florentine, 15, 20)])
def test_observed_networks(family, num_agents, edges):
    graph = family(None)
    assert nx.utils.graphs_equal(graph, family(num_agents))
    assert list(graph) == list(range(num_agents)) and graph.number_of_edges() == edges
    assert nx.is_connected(graph)
    assert len(set(nx.get_node_attributes(graph, "name").values())) == num_agents


@pytest.mark.parametrize("name", ["tree", "erdos_renyi", "random_geometric", "equitopo", "barabasi_albert"])
def test_a_hundred_thousand_agents(name):
    graph = GENERATED[name](100_000)
    assert len(graph) == 100_000
    check_mixing_matrix((uniform if graph.is_directed() else metropolis)(graph))
