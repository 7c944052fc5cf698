"""Facts about the graphs themselves."""

import inspect
import math

import networkx as nx
import pytest

from basinet.topologies import (
    POLICIES,
    TOPOLOGIES,
    complete,
    edge_list,
    erdos_renyi,
    exponential,
    grid,
    hypercube,
    path,
    random_regular,
    ring,
    star,
    torus,
)

GENERATED = {name: family for name, family in TOPOLOGIES.items() if family is not edge_list}


@pytest.mark.parametrize("num_agents", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("name", GENERATED)
def test_nodes_are_numbered_in_order_and_connected(name, num_agents):
    settings = {"degree": min(3, num_agents - 1)} if name == "random_regular" else {}
    graph = GENERATED[name](num_agents, **settings)
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


@pytest.mark.parametrize("family", [erdos_renyi, random_regular])
def test_random_graphs_follow_their_seed(family):
    assert nx.utils.graphs_equal(family(40, seed=3), family(40, seed=3))
    assert not nx.utils.graphs_equal(family(40, seed=3), family(40, seed=4))


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
        (lambda: erdos_renyi(5, seed=-1), "the seed of a random graph is -1, but must not be negative"),
    ],
)
def test_mistakes_are_one_sentence(build, sentence):
    with pytest.raises(ValueError) as caught:
        build()
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_random_regular_gives_up(monkeypatch):
    monkeypatch.setattr("basinet.topologies.random_graphs.ATTEMPTS", 0)
    with pytest.raises(ValueError, match=r"^random_regular: none of 0 graphs drawn with degree 2 for 40 agents"):
        random_regular(40, degree=2)
