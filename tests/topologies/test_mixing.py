"""The checks of graphs and mixing matrices."""

import networkx as nx
import numpy as np
import pytest
from scipy import sparse

from basinet.topologies import check_graph, check_mixing_matrix, exponential, metropolis, path, ring, uniform


@pytest.mark.parametrize("graph", [ring(5), exponential(5), path(1), nx.Graph([("a", (1, 2)), ("a", frozenset())])])
def test_good_graphs_pass(graph):
    check_graph(graph)


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (
            nx.MultiDiGraph([(0, 1)]),
            "the graph is a MultiDiGraph, but must have at most one edge between two agents; "
            "convert it with networkx.DiGraph(graph)",
        ),
        (nx.Graph(), "the graph has no nodes, but must have at least one agent"),
        (
            nx.Graph([("a", "b"), ("c", "d"), ("d", "e")]),
            "the graph has 2 connected components, but must have one: agent 'a' is cut off from agent 'c'",
        ),
        (
            nx.DiGraph([(0, 1), (1, 0), (1, 2)]),
            "the graph has 2 strongly connected components, but must have one: agent 2 is cut off from "
            "agent 0 in at least one direction",
        ),
    ],
)
def test_bad_graphs_are_refused(graph, sentence):
    with pytest.raises(ValueError) as caught:
        check_graph(graph)
    assert str(caught.value) == sentence


def test_only_networkx_graphs_are_graphs():
    with pytest.raises(TypeError, match=r"^the graph is a list, but must be a networkx Graph or DiGraph$"):
        check_graph([(0, 1)])


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        np.ndarray.tolist,
        sparse.csr_array,
        sparse.coo_array,
        sparse.csc_matrix,
        lambda W: W.astype(np.longdouble),
    ],
)
def test_any_form_of_matrix_is_accepted(convert):
    W = uniform(ring(6)).toarray()
    checked = check_mixing_matrix(convert(W), ring(6))
    assert isinstance(checked, sparse.csr_array)
    assert checked.dtype == np.float64
    assert checked.nnz == 18
    np.testing.assert_array_equal(checked.toarray(), W)


def test_the_given_matrix_is_left_alone():
    W = sparse.csr_array(([0.5, 0.5, 0.0, 1.0], [0, 1, 0, 0], [0, 2, 4]), shape=(2, 2))
    assert check_mixing_matrix(W).nnz == 3
    assert W.nnz == 4


def test_direction_of_the_support():
    graph = nx.DiGraph([(0, 1), (1, 2), (2, 0)])
    W = uniform(graph)
    check_mixing_matrix(W, graph)
    with pytest.raises(ValueError, match=r"no edge on which agent 1 sends to agent 0, so it must be 0$"):
        check_mixing_matrix(W.T, graph)


@pytest.mark.parametrize(
    ("W", "graph", "sentence"),
    [
        (np.ones((2, 3)) / 3, None, "the mixing matrix has shape (2, 3), but must be square"),
        (np.zeros((0, 0)), None, "the mixing matrix has shape (0, 0), but must be square"),
        (
            [[1.5, -0.5], [0.5, 0.5]],
            None,
            "entry [0, 1] of the mixing matrix is -0.5, but must be finite and not",
        ),
        ([[0.5, 0.5], [np.nan, 0.5]], None, "entry [1, 0] of the mixing matrix is nan, but must be finite"),
        ([[0.5, 0.5], [0.5, 0.6]], None, "row 1 of the mixing matrix sums to 1.1, but must sum to 1"),
        (
            uniform(path(3)).T,
            None,
            "row 0 of the mixing matrix sums to 0.8333333333, but must sum to 1; its columns do, so transpose it",
        ),
        (
            metropolis(ring(4)),
            ring(5),
            "the mixing matrix has shape (4, 4), but the graph has 5",
        ),
        (
            metropolis(ring(4)),
            nx.relabel_nodes(path(4), dict(enumerate("abcd"))),
            "entry [0, 3] of the mixing matrix is 0.333333, but the graph has no edge on which agent 'd' sends "
            "to agent 'a', so it must be 0",
        ),
        (
            np.eye(3),
            None,
            "the mixing matrix has 3 strongly connected components, but must have one: agent 1 is cut off "
            "from agent 0 in at least one direction",
        ),
    ],
)
def test_bad_matrices_are_refused(W, graph, sentence):
    with pytest.raises(ValueError) as caught:
        check_mixing_matrix(W, graph)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_round_need_not_connect_the_agents():
    assert check_mixing_matrix(np.eye(3), path(3), connected=False).nnz == 3
    with pytest.raises(ValueError, match=r"^row 0 of the mixing matrix sums to 2"):
        check_mixing_matrix(2 * np.eye(3), connected=False)


def test_rows_may_be_off_by_rounding_only():
    check_mixing_matrix([[0.5, 0.5 + 9e-9], [0.5, 0.5]])
    with pytest.raises(ValueError, match="row 0"):
        check_mixing_matrix([[0.5, 0.5 + 2e-8], [0.5, 0.5]])
