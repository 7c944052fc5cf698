"""Cuts: rows that travel are counted as by sets, and no partition lets more travel than the graph's own order."""

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array, eye_array

from basinet.topologies import cuts, exponential, grid, one_peer_exponential, random_matchings, torus
from basinet.topologies.cuts import arrange, crossing_rows, crossings


def even(agents, parts):
    return np.diff(np.linspace(0, agents, parts + 1).round().astype(int)).tolist()


def matrix(graph):
    """Return a matrix in which each agent hears its neighbours, or those with an edge to it."""
    return csr_array(nx.to_scipy_sparse_array(graph, dtype=float).T)


def shuffled(graph, seed):
    order = np.random.default_rng(seed).permutation(len(graph))
    return matrix(graph)[order][:, order]


def directed(agents, seed):
    return matrix(nx.gnp_random_graph(agents, 0.2, seed=seed, directed=True))


@pytest.mark.parametrize("seed", range(3))
def test_crossing_rows_are_pairs_of_a_sender_and_a_part_that_hears_it(seed):
    part = np.random.default_rng(seed).integers(0, 4, 20)
    part[0] = 3
    sequence = [directed(20, 10 * seed + step) for step in range(2)]
    sequence[0].data[:9] = 0  # nobody hears along these
    edges = [list(zip(*W.nonzero(), strict=True)) for W in sequence]
    pairs = [{(of, part[by]) for by, of in step if part[by] != part[of]} for step in edges]
    found = crossings(sequence, part, 4)
    for a in range(4):
        for b in range(4):
            assert found[a, b] == sum(part[sender] == a and to == b for step in pairs for sender, to in step)
    assert crossing_rows(sequence, part) == sum(map(len, pairs))


def test_a_shuffled_ring_is_put_together_again():
    W, sizes = shuffled(nx.cycle_graph(1000), 0), [250] * 4
    assert crossing_rows([W], arrange([W], sizes, partitioner="none")) > 1000
    assert crossing_rows([W], arrange([W], sizes)) == 8  # two in each direction at each of four borders


FAMILIES = {
    "grid": [matrix(grid(30))],
    "shuffled grid": [shuffled(grid(36), 1)],
    "torus": [matrix(torus(36))],
    "exponential": [matrix(exponential(32))],
    "digraph": [directed(40, 5)],
    "star": [matrix(nx.star_graph(20))],
    "complete": [matrix(nx.complete_graph(12))],
    "random regular": [matrix(nx.random_regular_graph(4, 60, seed=0))],
    "one-peer": [matrix(graph) for graph in one_peer_exponential(16)],
    "matchings": [matrix(graph) for graph in random_matchings(12, seed=0)],
    "two components": [matrix(nx.disjoint_union(nx.cycle_graph(7), nx.path_graph(5)))],
    "pair": [matrix(nx.path_graph(2))],
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_parts_have_the_sizes_asked_for_and_no_more_rows_travel_than_in_graph_order(name, parts):
    sequence = FAMILIES[name]
    agents = sequence[0].shape[0]
    sizes = even(agents, parts)
    for groups in (None, [place % 2 for place in range(parts)]):
        part = arrange(sequence, sizes, groups)
        assert np.bincount(part, minlength=parts).tolist() == sizes
        assert (part == arrange(sequence, sizes, groups)).all()
    plain = crossing_rows(sequence, arrange(sequence, sizes, partitioner="none"))
    assert crossing_rows(sequence, arrange(sequence, sizes)) <= plain


def test_metis_gives_the_sizes_asked_for_and_is_no_worse_than_graph_order():
    pytest.importorskip("pymetis")
    for sequence in FAMILIES.values():
        sizes = even(sequence[0].shape[0], 4)
        part = arrange(sequence, sizes, partitioner="metis")
        assert np.bincount(part, minlength=4).tolist() == sizes
        assert crossing_rows(sequence, part) <= crossing_rows(sequence, arrange(sequence, sizes, partitioner="none"))


def test_parts_of_a_machine_are_neighbours():
    """Of four parts of a shuffled ring on two machines, two borders are within a machine, and two between them."""
    W, sizes = shuffled(nx.cycle_graph(40), 3), [10] * 4
    part = arrange([W], sizes, groups=[0, 1, 0, 1])
    assert crossing_rows([W], part) == 8
    assert crossing_rows([W], part % 2) == 4


def test_refinement_returns_agents_to_their_halves(monkeypatch):
    """Two cliques joined by an edge, of which two agents have changed places: one row in each direction travels."""
    monkeypatch.setattr(cuts, "_orders", lambda links: [])
    order = [0, 10, 2, 3, 4, 5, 6, 7, 8, 9, 1, 11]
    W = matrix(nx.barbell_graph(6, 0))[order][:, order] + eye_array(12)  # agents hear themselves, too
    assert crossing_rows([W], arrange([W], [6, 6])) == 2


@pytest.mark.parametrize(("kind", "rows"), [(nx.Graph, 8), (nx.DiGraph, 4)])
def test_bisection_puts_a_shuffled_ring_together_by_itself(kind, rows, monkeypatch):
    monkeypatch.setattr(cuts, "_orders", lambda links: [])
    monkeypatch.setattr(cuts, "refine", lambda nets, part, sizes: part)
    W = shuffled(nx.cycle_graph(40, create_using=kind), 3)
    assert crossing_rows([W], arrange([W], [10] * 4)) == rows


def test_the_order_of_the_graph_is_kept_where_all_others_are_worse(monkeypatch):
    monkeypatch.setattr(cuts, "_orders", lambda links: [np.random.default_rng(0).permutation(links.shape[0])])
    monkeypatch.setattr(cuts, "refine", lambda nets, part, sizes: part)
    assert arrange([matrix(nx.cycle_graph(8))], [4, 4]).tolist() == [0] * 4 + [1] * 4


def test_a_graph_too_large_to_refine_is_cut_in_a_good_order():
    W = shuffled(nx.cycle_graph(4000), 0)
    assert crossing_rows([W], arrange([W], even(4000, 60))) == 120
