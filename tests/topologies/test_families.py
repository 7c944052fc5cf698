"""What every family of graphs has in common, and the mistakes one can make with them."""

import inspect
import math

import networkx as nx
import pytest

from basinet.topologies import (
    POLICIES,
    SEQUENCES,
    TOPOLOGIES,
    barabasi_albert,
    barbell,
    caterpillar,
    check_mixing_matrix,
    clusters,
    equitopo,
    erdos_renyi,
    grid,
    hypercube,
    karate,
    lollipop,
    margulis,
    metropolis,
    newman_watts,
    paley,
    random_geometric,
    random_regular,
    torus,
    tree,
    uniform,
    watts_strogatz,
)

READ = {"edge_list", "adjacency_list", "adjacency_matrix", "graphml"}
OBSERVED = {"karate", "davis", "florentine"}
GENERATED = {name: family for name, family in TOPOLOGIES.items() if name not in READ | OBSERVED}
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


@pytest.mark.parametrize("component", [*TOPOLOGIES.values(), *SEQUENCES.values(), *POLICIES.values()])
def test_signatures_follow_the_convention(component):
    first, *settings = inspect.signature(component).parameters.values()
    assert first.name in {"num_agents", "graph"}
    assert first.default is first.empty
    assert all(setting.kind is setting.KEYWORD_ONLY for setting in settings)
    assert not any(isinstance(setting.annotation, str) for setting in [first, *settings])


@pytest.mark.parametrize("name", [*TOPOLOGIES, *SEQUENCES, *POLICIES])
def test_registries_know_components_by_their_name(name):
    registry = next(registry for registry in (TOPOLOGIES, SEQUENCES, POLICIES) if name in registry)
    assert registry[name].__name__ == name


@pytest.mark.parametrize("name", RANDOM)
def test_random_graphs_follow_their_seed(name):
    family = GENERATED[name]
    assert nx.utils.graphs_equal(family(40, seed=3), family(40, seed=3))
    assert not nx.utils.graphs_equal(family(40, seed=3), family(40, seed=4))
    with pytest.raises(ValueError, match=r"^the seed of a random graph is -1, but must not be negative$"):
        family(40, seed=-1)


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
    monkeypatch.setattr("basinet.topologies.building.ATTEMPTS", 0)
    with pytest.raises(ValueError, match=f"^{sentence}"):
        build()


@pytest.mark.parametrize("name", ["tree", "erdos_renyi", "random_geometric", "equitopo", "barabasi_albert"])
def test_tens_of_thousands_of_agents(name):
    graph = GENERATED[name](30_000)
    assert len(graph) == 30_000
    check_mixing_matrix((uniform if graph.is_directed() else metropolis)(graph))
