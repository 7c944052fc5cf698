"""Graphs and matrices in files."""

import os

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array, save_npz

from basinet.topologies import (
    adjacency_list,
    adjacency_matrix,
    edge_list,
    exponential,
    file,
    florentine,
    graphml,
    grid,
    metropolis,
    perron_vector,
    ring,
    uniform,
    weights,
)


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
        ("0,1\n1,2\n", "line 1 of {path} holds '0,1', but names and weights must be separated by blanks alone"),
        ("0 1\n\n2 # and nobody\n", "line 3 of {path} holds 1 word, but each line must"),
        ("0 1\n0 1 2 3\n", "line 2 of {path} holds 4 words, but each line must"),
        ("0 1 heavy\n", "line 1 of {path} gives an edge the weight 'heavy', but a weight must be a finite number"),
        ("# all\n0 1 nan\n", "line 2 of {path} gives an edge the weight 'nan'"),
        ("0 1 -inf\n", "line 1 of {path} gives an edge the weight '-inf'"),
        ("0 1 1e400\n", "line 1 of {path} gives an edge the weight '1e400'"),
        ("0 1 1_0\n", "line 1 of {path} gives an edge the weight '1_0'"),
        ("0 1\n1 2\n0 1\n", "line 3 of {path} repeats the edge from '0' to '1' of line 1"),
        ("0 1 2\n0 1 3\n", "line 2 of {path} repeats the edge from '0' to '1' of line 1"),
        ("0 0\n0 0\n", "line 2 of {path} repeats the edge from '0' to '0' of line 1"),
        ("0 1 2\n1 0 3\n", "line 2 of {path} gives the edge of '1' and '0' another weight than line 1"),
        ("0 1 2\r\n1 0\r\n", "line 2 of {path} gives the edge of '1' and '0' another weight than line 1"),
        ("0 1\n1 2\n2 01\n", "line 3 of {path} names the agent '01', which is the same number as '1' on line 1"),
        ("0 1\n1 -0\n", "line 2 of {path} names the agent '-0', which is the same number as '0' on line 1"),
        ("0 1#one\n", "line 1 of {path} holds '1#one', but a comment must begin after a blank"),
        ("0 \ufeff1\n", "line 1 of {path} holds '\\ufeff1', but a name must have no invisible characters"),
        (b"0 1\nr\xf6m 1\n", "line 2 of {path} is not text in UTF-8"),
        ("0 1\n1 2\n".encode("utf-16"), "line 1 of {path} is not text in UTF-8"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, content, sentence):
    file = tmp_path / "graph.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as caught:
        edge_list(4 if "num_agents" in sentence else None, path=file)
    assert str(caught.value).startswith("edge_list: " + sentence.format(path=repr(str(file))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encode", [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")])
def test_a_mark_of_the_byte_order_and_other_ends_of_lines_change_nothing(tmp_path, encode):
    text = "röm oslo 0.5\n\n  # a comment\n\toslo  röm 0.50 # the other way\noslo oslo 1\noslo bern -1e-3"
    (tmp_path / "graph.txt").write_bytes(encode(text.encode()))
    read = edge_list(3, path=tmp_path / "graph.txt")
    expected = {("röm", "oslo", 0.5), ("oslo", "oslo", 1.0), ("oslo", "bern", -0.001)}
    assert set(read.edges(data="weight")) == expected and list(read) == ["röm", "oslo", "bern"]
    (tmp_path / "lists.txt").write_bytes(encode(b"2 1 # two\n\n1 2\n07\n"))
    read = adjacency_list(3, path=tmp_path / "lists.txt")
    assert (list(read), list(read.edges)) == ([1, 2, 7], [(1, 2)])
    (tmp_path / "matrix.csv").write_bytes(encode(b"0,1\n\n1,0\n"))
    assert set(adjacency_matrix(2, path=tmp_path / "matrix.csv").edges) == {(0, 1)}
    nx.write_graphml(nx.Graph([("röm", "oslo")]), tmp_path / "graph.graphml")
    (tmp_path / "graph.graphml").write_bytes(encode((tmp_path / "graph.graphml").read_bytes()))
    assert list(graphml(2, path=tmp_path / "graph.graphml").edges) == [("röm", "oslo")]


def test_both_directions_of_a_directed_edge_are_two_edges(tmp_path):
    (tmp_path / "graph.txt").write_text("0 1 0.25\n1 0 0.5\n")
    read = edge_list(2, path=tmp_path / "graph.txt", directed=True)
    assert dict(read.edges) == {(0, 1): {"weight": 0.25}, (1, 0): {"weight": 0.5}}


@pytest.mark.parametrize("read", [edge_list, adjacency_list])
@pytest.mark.parametrize(
    ("line", "word", "rule"),
    [
        *((line, word, "names and weights must be separated by blanks alone") for line, word in (
            ("0: 1", "0:"), ("0 : 1", ":"), ("0, 1", "0,"), ("0 ,1", ",1"), ("0,1 2", "0,1"), ("0; 1", "0;"),
            ("0 | 1", "|"), ("1 -- 2", "--"), ("1 -> 2", "->"), ("1->2 3", "1->2"), ("1 <- 2", "<-"),
        )),
        *((f"{word} 1 2", word, "a comment must begin with '#'") for word in ("//", "//by", "%", "%%Matrix")),
        *((f"1 {word}", word, "a name must have a letter or a digit") for word in ("-", "=", "_", "→", "…")),
    ],
)  # fmt: skip
def test_words_of_other_formats_are_no_agents(tmp_path, read, line, word, rule):
    (tmp_path / "graph.txt").write_text(f"a b\n{line}\n")
    with pytest.raises(ValueError) as caught:
        read(None, path=tmp_path / "graph.txt")
    assert str(caught.value).endswith(f"line 2 of {str(tmp_path / 'graph.txt')!r} holds {word!r}, but {rule}")


def test_names_may_hold_marks(tmp_path):
    (tmp_path / "graph.txt").write_text("10.0.0.1:80 north-west a_b\n-1 50% #1\n")
    assert list(adjacency_list(None, path=tmp_path / "graph.txt")) == ["10.0.0.1:80", "north-west", "a_b", "-1", "50%"]


@pytest.mark.parametrize(
    ("names", "same"),
    [
        *(((one, other), "the same number as") for one, other in (
            ("1", "+1"), ("1.0", "1"), ("1", "01"), ("1", "١"), ("-0", "0"), ("1e3", "1000"), ("１", "1"),
            ("9007199254740993.0", "9007199254740993"),
        )),
        (("caf\u00e9", "cafe\u0301"), "canonically equivalent to"),
        (("\u212b", "\u00c5"), "canonically equivalent to"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("others", [["a"], ["7"]])
def test_an_agent_has_one_spelling(tmp_path, names, same, others):
    lists, xml = tmp_path / "graph.txt", tmp_path / "graph.graphml"
    lists.write_text("\n".join([*others, *names]))
    xml.write_text(graphml_text(*(f'<node id="{name}"/>' for name in [*others, *names])))
    with pytest.raises(ValueError, match=f"^adjacency_list: line 3 of .* names the agent .*, which is {same}"):
        adjacency_list(None, path=lists)
    with pytest.raises(ValueError, match=f"^graphml: line 6 of .* names the agent .*, which is {same} .* on line 5"):
        graphml(None, path=xml)


def test_names_that_differ_are_agents_of_their_own(tmp_path):
    names = ["9007199254740993", "9007199254740992", "1_0", "10", "inf", "Infinity", "nan", "NaN", "e", "\u00e9", "²"]
    (tmp_path / "graph.txt").write_text("\n".join(names))
    assert list(adjacency_list(None, path=tmp_path / "graph.txt")) == names


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("0 1 1\n", "line 1 of .* repeats the edge from '0' to '1' of line 1"),
        ("0 1\n1 0\n0 2\n0 1\n", "line 4 of .* repeats the edge from '0' to '1' of line 1"),
        ("0 1\n1 00\n", "line 2 of .* names the agent '00', which is the same number as '0' on line 1"),
    ],
)
def test_adjacency_lists_lose_nothing(tmp_path, content, sentence):
    (tmp_path / "graph.txt").write_text(content)
    with pytest.raises(ValueError, match=f"^adjacency_list: {sentence}"):
        adjacency_list(None, path=tmp_path / "graph.txt")


def test_damaged_archives_cannot_be_read(tmp_path):
    nx.write_edgelist(grid(400), tmp_path / "grid.txt.gz", data=False)
    content = (tmp_path / "grid.txt.gz").read_bytes()
    for damaged in (content[:-60], content[:100] + b"damage" + content[106:], b"0 1"):
        (tmp_path / "grid.txt.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^edge_list: path is '.*', which cannot be read \("):
            edge_list(None, path=tmp_path / "grid.txt.gz")


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"^edge_list: path is '.*none\.txt', which cannot be read \(No such file"):
        edge_list(3, path=tmp_path / "none.txt")


def saved(matrix, path):
    match path.suffix if matrix is not None else None:
        case ".npz":
            save_npz(path, csr_array(matrix))
        case ".npy":
            np.save(path, matrix)
        case ".csv":
            np.savetxt(path, matrix, delimiter=",", fmt="%.17g")
    return path


@pytest.mark.parametrize("graph", [grid(12), nx.DiGraph(exponential(6).edges)])
def test_adjacency_lists_round_trip(tmp_path, graph):
    nx.write_adjlist(graph, tmp_path / "graph.txt.gz")
    read = adjacency_list(len(graph), path=tmp_path / "graph.txt.gz", directed=graph.is_directed())
    assert list(read) == list(range(len(graph)))
    assert nx.utils.graphs_equal(read, graph)


def test_graphml_round_trip(tmp_path):
    graph = florentine(None)
    nx.write_graphml(graph, tmp_path / "families.graphml")
    assert nx.utils.graphs_equal(graphml(15, path=tmp_path / "families.graphml"), graph)
    directed = nx.DiGraph([("rome", "oslo"), ("oslo", "bern")])
    nx.write_graphml(directed, tmp_path / "towns.graphml")
    read = graphml(None, path=tmp_path / "towns.graphml")
    assert list(read) == ["rome", "oslo", "bern"]
    assert read.is_directed() and set(read.edges) == set(directed.edges)


@pytest.mark.parametrize("ending", [".npz", ".npy", ".csv"])
def test_matrices_round_trip(tmp_path, ending):
    graph = ring(5)
    W = metropolis(graph)
    path = saved(W.toarray(), tmp_path / f"weights{ending}")
    np.testing.assert_array_equal(file(graph, path=str(path)).toarray(), W.toarray())
    path = saved(nx.to_numpy_array(graph), tmp_path / f"ring{ending}")
    read = adjacency_matrix(5, path=path)
    assert nx.utils.edges_equal(read.edges, graph.edges)
    assert list(read) == list(range(5))
    assert read.edges[0, 1] == {"weight": 1.0}
    one_way = nx.to_numpy_array(exponential(5))
    read = adjacency_matrix(None, path=saved(one_way, tmp_path / f"one_way{ending}"), directed=True)
    assert set(read.edges) == set(exponential(5).edges)


def test_integers_and_booleans_are_numbers(tmp_path):
    matrix = np.eye(3, k=1, dtype=bool) | np.eye(3, k=-1, dtype=bool)
    for kind in (bool, np.int64, ">i4", np.float16, np.float32, ">f4", ">f8"):
        read = adjacency_matrix(3, path=saved(matrix.astype(kind), tmp_path / "path.npy"))
        assert set(read.edges) == {(0, 1), (1, 2)}


@pytest.mark.parametrize(
    ("matrix", "name", "sentence"),
    [
        (np.ones((2, 3)), "m.npy", "{path} has the shape (2, 3), but must be square"),
        (np.ones(3), "m.npy", "{path} has the shape (3,), but must be a matrix"),
        (np.array([[0, np.nan], [np.nan, 0]]), "m.csv", "{path} holds a number that is not finite, nan at [0, 1]"),
        (
            np.eye(3, k=1),
            "m.npz",
            "{path} is not symmetric, but an undirected graph's matrix must be; the entry [0, 1] ",
        ),
        (np.eye(2) * 1j, "m.npy", "{path} is not a matrix of numbers (Cannot cast"),
        (np.array([["a"]]), "m.npy", "{path} is not a matrix of numbers ("),
        (np.ones((2, 2)), "m.csv", "num_agents is 4, but {path} has 2 agents; give 2 or leave the number out"),
        (np.ones((2, 2)), "m.txt", "path is {path}, but must end in .npz, .npy, .csv"),
        (None, "none.npz", "path is {path}, which cannot be read (No such file"),
        (None, "none.npy", "path is {path}, which cannot be read (No such file"),
        (None, "none.csv", "path is {path}, which cannot be read ("),
    ],
)
def test_mistakes_in_matrices_are_one_sentence(tmp_path, matrix, name, sentence):
    path = saved(matrix, tmp_path / name)
    with pytest.raises(ValueError) as caught:
        adjacency_matrix(4, path=path)
    assert str(caught.value).startswith("adjacency_matrix: " + sentence.format(path=repr(str(path))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "name"),
    [(edge_list, "g.txt"), (graphml, "g.xml"), (adjacency_matrix, "m.csv"), (adjacency_matrix, "m.npy")],
)
def test_a_pipe_is_not_waited_for(tmp_path, read, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"^{read.__name__}: path is '.*{name}', which is no ordinary file$"):
        read(None, path=tmp_path / name)


@pytest.mark.parametrize("name", ["m.npz", "m.npy", "m.csv"])
@pytest.mark.parametrize("content", ["", "rubbish", "1,2\n3\n"])
def test_rubbish_is_no_matrix(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"^the policy file: '.*' (is not a matrix of numbers|has)") as caught:
        file(ring(3), path=tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [-5, 3, 10**8])
def test_a_sparse_matrix_with_entries_outside_of_it_is_refused(tmp_path, place):
    matrix = csr_array(np.eye(3))
    matrix.indices[1] = place
    save_npz(tmp_path / "m.npz", matrix)
    with pytest.raises(ValueError, match=r"m\.npz' is not a matrix of numbers \(indices must be"):
        adjacency_matrix(3, path=tmp_path / "m.npz")


@pytest.mark.parametrize("policy", ["os:getcwd", "basinet.topologies:ring", "3"])
def test_a_file_names_no_code(tmp_path, policy):
    nx.write_graphml(nx.Graph([(0, 1)], policy=policy), tmp_path / "graph.graphml")
    with pytest.raises(ValueError, match=rf"names the policy '{policy}', but a file may name only built-in ones"):
        graphml(2, path=tmp_path / "graph.graphml")
    nx.write_graphml(nx.Graph([(0, 1)], policy="lazy"), tmp_path / "graph.graphml")
    assert graphml(2, path=tmp_path / "graph.graphml").graph == {"policy": "lazy"}


def test_an_external_entity_is_not_read(tmp_path):
    (tmp_path / "secret").write_text("0.5")
    edge = '<edge source="0" target="1"><data key="w">&x;</data></edge>'
    text = graphml_text('<node id="0"/>', '<node id="1"/>', edge)
    path = tmp_path / "graph.graphml"
    path.write_text(f'<!DOCTYPE graphml [<!ENTITY x SYSTEM "{tmp_path / "secret"}">]>{text}')
    with pytest.raises(ValueError, match=r"^graphml: ") as caught:
        graphml(2, path=path)
    assert "0.5" not in str(caught.value)
    path.write_text(f'<!DOCTYPE graphml [<!ENTITY x "0.5">]>{text}')  # one of its own is
    assert graphml(2, path=path).edges[0, 1]["weight"] == 0.5


def test_weights_off_the_edges_are_refused(tmp_path):
    path = saved(np.full((4, 4), 0.25), tmp_path / "weights.npy")
    with pytest.raises(ValueError, match=r"^entry \[0, 2\] of the mixing matrix is 0.25, but the graph has no edge"):
        file(ring(4), path=path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "graphml: path is {path}, which cannot be read (No such file"),
        ("0 1", "graphml: {path} is not a GraphML file ("),
        ("<graphml/>", "graphml: {path} is not a GraphML file ("),
        ("<html></html>", "graphml: {path} is not a GraphML file ("),
    ],
)
def test_rubbish_is_no_graphml(tmp_path, content, sentence):
    path = tmp_path / "graph.graphml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError) as caught:
        graphml(None, path=path)
    assert str(caught.value).startswith(sentence.format(path=repr(str(path))))
    assert "\n" not in str(caught.value)


def graphml_text(*elements, directed="undirected", weight="string", default=""):
    key = f'<key id="w" for="edge" attr.name="weight" attr.type="{weight}">{default}</key>'
    lines = [key, f'<graph edgedefault="{directed}">', *elements, "</graph></graphml>"]
    return '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n' + "\n".join(lines)


NODES = [f'<node id="{name}"/>' for name in "abc"]
BETWEEN = '<edge source="a" target="b"><data key="w">{}</data></edge>'.format


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ([*NODES, '<node id="a"/>'], "line 7 of .* declares the agent 'a' of line 4 again"),
        ([*NODES, "<node/>"], "line 7 of .* holds a <node> without 'id'"),
        (
            [*NODES, BETWEEN(1), '<edge source="b" target="a"/>'],
            "line 8 of .* has the same agents as the edge on line 7",
        ),
        ([*NODES, '<edge source="a" target="B"/>'], "line 7 of .* holds an edge of the agent 'B', which no <node>"),
        (
            [*NODES, "</graph><graph edgedefault='directed'>", '<node id="d"/>'],
            "line 8 of .* holds an agent of a second or inner graph",
        ),
        (
            [*NODES, '<node id="d"><graph edgedefault="directed">', '<node id="e"/></graph></node>'],
            "line 8 of .* holds an agent of a second",
        ),
        (
            [*NODES, "</graph><graph edgedefault='directed'>", BETWEEN(1)],
            "line 8 of .* holds an edge of a second or inner graph",
        ),
        ([*NODES, BETWEEN("heavy")], "line 7 of .* gives an edge the weight 'heavy', but a weight must be a finite"),
        ([*NODES, BETWEEN("NaN")], "line 7 of .* gives an edge the weight 'NaN'"),
        ([*NODES, BETWEEN("1_0")], "line 7 of .* gives an edge the weight '1_0'"),
        (
            [*NODES, BETWEEN('1</data><data key="w">2')],
            "line 7 of .* gives the attribute 'weight' of line 7 again",
        ),
        (
            [*NODES, '<edge source="a" target="b" directed="True"/>'],
            "line 7 of .* has directed='True', but allowed are",
        ),
        ([*NODES, "</graph><graph>"], "line 7 of .* holds a <graph> without 'edgedefault'"),
        ([*NODES, BETWEEN("")], "line 7 of .* gives an edge the weight ''"),
        (
            ['<node id="1"/>', '<node id="01"/>'],
            "line 5 of .* names the agent '01', which is the same number as '1' on",
        ),
        ([*NODES, '<hyperedge><endpoint node="a"/></hyperedge>'], ".* is not a GraphML file .*hyperedges"),
    ],
)
def test_graphml_loses_nothing(tmp_path, elements, sentence):
    path = tmp_path / "graph.graphml"
    path.write_text(graphml_text(*elements))
    with pytest.raises(ValueError, match=f"^graphml: {sentence}") as caught:
        graphml(None, path=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("directed", ["Directed", "true", ""])
def test_graphml_says_whether_it_is_directed(tmp_path, directed):
    (tmp_path / "graph.graphml").write_text(graphml_text(*NODES, directed=directed))
    with pytest.raises(ValueError, match=f"line 3 of .* has edgedefault='{directed}', but allowed are 'directed' and"):
        graphml(None, path=tmp_path / "graph.graphml")


@pytest.mark.parametrize("domain", ['for="edge"', 'for="all"', ""])
@pytest.mark.parametrize("kind", ["double", "string", "float"])
def test_edges_take_the_default_weight(tmp_path, domain, kind):
    path, edges = tmp_path / "graph.graphml", [BETWEEN(0.5), '<edge source="b" target="c"/>']
    text = graphml_text(*NODES, *edges, weight=kind, default="<default>0.3</default>").replace('for="edge"', domain)
    path.write_text(text)
    assert list(graphml(3, path=path).edges(data="weight")) == [("a", "b", 0.5), ("b", "c", 0.3)]
    path.write_text(text.replace("0.3", "1_0"))
    with pytest.raises(ValueError, match=r"line 8 of .* gives an edge the weight '1_0'"):
        graphml(3, path=path)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ('id="v" for="edge" attr.name="weight"', "edge attribute 'weight' of line 2"),
        ('id="v" attr.name="weight"', "edge attribute 'weight' of line 2"),
        ('id="w" for="node" attr.name="size"', "key 'w' of line 2"),
    ],
)
def test_graphml_keys_are_declared_once(tmp_path, key, sentence):
    path = tmp_path / "graph.graphml"
    path.write_text(graphml_text(*NODES, BETWEEN(1)).replace("<graph ", f"<key {key}/><graph "))
    with pytest.raises(ValueError, match=f"line 3 of .* declares the {sentence} again"):
        graphml(3, path=path)
    path.write_text(
        graphml_text(*NODES, BETWEEN(1)).replace("<graph ", '<key id="v" for="node" attr.name="weight"/><graph ')
    )
    assert graphml(3, path=path).edges["a", "b"] == {"weight": 1}


def test_weights_of_graphml_are_numbers(tmp_path):
    path = tmp_path / "graph.graphml"
    for kind in ("string", "double", "long"):
        path.write_text(graphml_text(*NODES, BETWEEN(2), '<edge source="b" target="b"/>', weight=kind))
        assert list(graphml(3, path=path).edges(data="weight")) == [("a", "b", 2.0), ("b", "b", None)]
    default = "<default>0.25</default>"
    path.write_text(graphml_text(*NODES, BETWEEN(0.5), '<edge source="b" target="c"/>', default=default))
    np.testing.assert_array_equal(
        weights(graphml(3, path=path)).toarray(), [[0.5, 0.5, 0], [0.5, 0.25, 0.25], [0, 0.25, 0.75]]
    )
    path.write_text(graphml_text(*NODES, BETWEEN("true"), weight="boolean"))
    with pytest.raises(ValueError, match="gives an edge the weight 'true'"):
        graphml(3, path=path)
    both = [BETWEEN(1), '<edge source="b" target="a"/>']
    path.write_text(graphml_text(*NODES, *both, directed="directed"))
    assert set(graphml(3, path=path).edges) == {("a", "b"), ("b", "a")}


def test_empty_adjacency_list(tmp_path):
    (tmp_path / "graph.txt").write_text("# nobody\n")
    with pytest.raises(ValueError, match=r"^adjacency_list: '.*' holds no agent$"):
        adjacency_list(None, path=tmp_path / "graph.txt")
    with pytest.raises(ValueError, match=r"^adjacency_list: path is '.*none.txt', which cannot be read \(No such file"):
        adjacency_list(None, path=tmp_path / "none.txt")
    (tmp_path / "graph.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"^adjacency_list: line 1 of '.*' is not text in UTF-8 \("):
        adjacency_list(None, path=tmp_path / "graph.txt")
