"""Edge-list files."""

import networkx as nx
import numpy as np
import pytest

from basinet.topologies import edge_list, grid, perron_vector, uniform, weights


def test_round_trip(tmp_path):
    graph = grid(12)
    nx.write_edgelist(graph, tmp_path / "grid.txt", data=False)
    read = edge_list(12, path=tmp_path / "grid.txt")
    assert list(read) == list(range(12))
    assert nx.utils.graphs_equal(read, graph)


def test_weights_become_edge_attributes(tmp_path):
    graph = nx.DiGraph()
    graph.add_weighted_edges_from([("a", "b", 0.25), ("b", "c", 0.5), ("c", "a", 1.0)])
    nx.write_weighted_edgelist(graph, tmp_path / "triangle.txt.gz")
    read = edge_list(None, path=str(tmp_path / "triangle.txt.gz"), directed=True)
    assert list(read) == ["a", "b", "c"]
    assert nx.utils.graphs_equal(read, graph)
    np.testing.assert_array_equal(weights(read).toarray(), [[0, 0, 1], [0.25, 0.75, 0], [0, 0.5, 0.5]])


def test_integer_labels_are_in_order_and_others_as_named(tmp_path):
    file = tmp_path / "graph.txt"
    file.write_text("# two edges\n10 9\n2 10  # the last\n")
    assert list(edge_list(3, path=file)) == [2, 9, 10]
    file.write_text("rome oslo\nbern rome\n")
    assert list(edge_list(3, path=file)) == ["rome", "oslo", "bern"]
    np.testing.assert_allclose(perron_vector(uniform(edge_list(3, path=file))), np.array([3, 2, 2]) / 7)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("0 1\n1 2\n", "num_agents is 4, but {path} has 3 agents; give 3 or leave the number out"),
        (
            "",
            "{path} holds no edge; each line must hold two agents and at most a weight, separated by blanks",
        ),
        ("0,1\n1,2\n", "{path} holds no edge"),
        ("0 1 2 3\n", "{path} is not an edge list (Edge data ['2', '3']"),
        ("0 1 heavy\n", "{path} is not an edge list (Failed to convert weight data heavy"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, content, sentence):
    file = tmp_path / "graph.txt"
    file.write_text(content)
    with pytest.raises(ValueError) as caught:
        edge_list(4, path=file)
    assert str(caught.value).startswith("edge_list: " + sentence.format(path=repr(str(file))))
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"^edge_list: path is '.*none\.txt', which cannot be read \(No such file"):
        edge_list(3, path=tmp_path / "none.txt")
