"""Graphs read from a file."""

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from operator import itemgetter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import networkx as nx
import numpy as np

from basinet.topologies.building import TOPOLOGIES
from basinet.topologies.policies.matrix_files import decode, read_bytes, read_matrix

__all__ = ["adjacency_list", "adjacency_matrix", "edge_list", "graphml"]


@TOPOLOGIES.register()
def edge_list(num_agents: int | None, *, path: str | Path, directed: bool = False) -> nx.Graph:
    r"""A graph read from a text file with one edge per line: two agents and an optional weight.

    Columns are separated by blanks, ``#`` starts a comment, the text is UTF-8, and files ending in .gz or .bz2 are
    decompressed. The weight becomes the edge attribute ``weight``, which the policy `weights` uses. An undirected edge
    may be listed in both directions, with the same weight.

    Args:
        num_agents: Number of agents expected in the file; None accepts any.
        path: The file.
        directed: Whether the line ``u v`` means only that u sends to v. By default both send.

    Returns:
        Graph with the file's labels. If all of them are integers, the nodes are integers in increasing
        order; otherwise they are strings in the order in which the file names them.

    Raises:
        ValueError: If the file cannot be read, holds no edge, names an agent in two ways (1 and 01), separates names by
            anything but blanks, has an edge twice or a weight that is not finite, or has another number of agents.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "triangle.txt"
        ...     _ = file.write_text("0 1 0.3\n1 2 0.3\n2 0 0.3\n")
        ...     edge_list(3, path=file).edges[0, 1]
        {'weight': 0.3}
    """
    source = _Source("edge_list", path)
    form = "each line must hold two agents and at most a weight, separated by blanks"

    def entries() -> Iterator[_Entry]:
        for line, (sender, *rest) in source.words():
            if not 1 <= len(rest) <= 2:
                words = "1 word" if not rest else f"{1 + len(rest)} words"
                raise source.mistake(line, f"holds {words}, but {form}")
            receiver, *given = rest
            yield line, sender, [(receiver, source.weight(line, given[0]) if given else None)]

    graph, lines = _assemble(entries(), source, directed=directed)
    if not graph:
        raise ValueError(f"edge_list: {str(path)!r} holds no edge; {form}")
    return _finish(graph, num_agents, source, lines)


@TOPOLOGIES.register()
def adjacency_list(num_agents: int | None, *, path: str | Path, directed: bool = False) -> nx.Graph:
    r"""A graph read from a text file with one agent per line, followed by its neighbours.

    Columns are separated by blanks, ``#`` starts a comment, the text is UTF-8, and files ending in .gz or .bz2 are
    decompressed. An edge may be listed on the line of either agent, or of both.

    Args:
        num_agents: Number of agents expected in the file; None accepts any.
        path: The file.
        directed: Whether the line ``u v w`` means only that u sends to v and w. By default both send.

    Returns:
        Graph with the file's labels. If all of them are integers, the nodes are integers in increasing
        order; otherwise they are strings in the order in which the file names them.

    Raises:
        ValueError: If the file cannot be read, holds no agent, names an agent in two ways (1 and 01), separates names
            by anything but blanks, has an edge twice, or has another number of agents.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "star.txt"
        ...     _ = file.write_text("0 1 2 3\n")
        ...     sorted(adjacency_list(4, path=file).edges)
        [(0, 1), (0, 2), (0, 3)]
    """
    source = _Source("adjacency_list", path)
    entries = ((line, agent, [(neighbor, None) for neighbor in rest]) for line, (agent, *rest) in source.words())
    graph, lines = _assemble(entries, source, directed=directed)
    return _finish(graph, num_agents, source, lines)


@TOPOLOGIES.register()
def adjacency_matrix(num_agents: int | None, *, path: str | Path, directed: bool = False) -> nx.Graph:
    r"""A graph read from a matrix file: an edge wherever the entry [u, v] is not zero.

    The endings .npz (a sparse matrix, as scipy.sparse.save_npz writes it), .npy (an array, as numpy.save does) and .csv
    (numbers separated by commas) are supported. The entry becomes the edge attribute ``weight``, which the policy
    `weights` uses.

    Args:
        num_agents: Number of agents expected in the matrix; None accepts any.
        path: The file.
        directed: Whether the entry [u, v] means only that u sends to v. By default both send, and the matrix must
            be symmetric.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If the file cannot be read, or its matrix is not square, not finite, not symmetric where it must be,
            or has another number of agents.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "path.csv"
        ...     _ = file.write_text("0,1,0\n1,0,1\n0,1,0\n")
        ...     sorted(adjacency_matrix(3, path=file).edges)
        [(0, 1), (1, 2)]
    """
    matrix = read_matrix(path, "adjacency_matrix")
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"adjacency_matrix: {str(path)!r} has the shape {matrix.shape}, but must be square")
    if not np.isfinite(matrix.data).all():
        u, v = (ends[~np.isfinite(matrix.data)][0] for ends in matrix.tocoo().coords)
        raise ValueError(
            f"adjacency_matrix: {str(path)!r} holds a number that is not finite, {matrix[u, v]} at [{u}, {v}]"
        )
    if not directed and (one_way := matrix != matrix.T).nnz:
        u, v = (ends[0] for ends in one_way.tocoo().coords)
        raise ValueError(
            f"adjacency_matrix: {str(path)!r} is not symmetric, but an undirected graph's matrix must be; the entry "
            f"[{u}, {v}] is {matrix[u, v]:g} and [{v}, {u}] is {matrix[v, u]:g}: set directed to true or symmetrise it"
        )
    graph = nx.from_scipy_sparse_array(matrix, create_using=nx.DiGraph if directed else nx.Graph)
    return _finish(graph, num_agents, _Source("adjacency_matrix", path), {})


@TOPOLOGIES.register()
def graphml(num_agents: int | None, *, path: str | Path) -> nx.Graph:
    """A graph read from a GraphML file, as written by networkx, Gephi, yEd or igraph, with all its attributes.

    The attribute ``weight`` of an edge, which the policy `weights` uses, is read as a number even if it is text. Edges
    take the default values of their attributes.

    Args:
        num_agents: Number of agents expected in the file; None accepts any.
        path: The file; files ending in .gz or .bz2 are decompressed.

    Returns:
        Graph, or DiGraph if the file says so, with the file's labels. If all of them are integers, the nodes are
        integers in increasing order; otherwise they are strings in the order of the file.

    Raises:
        ValueError: If the file cannot be read, has no agent, repeats an agent, an edge or an attribute, has several
            graphs or a weight that is not finite, does not say whether it is directed, has another number of agents, or
            names a policy that is not built in.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "path.graphml"
        ...     nx.write_graphml(nx.path_graph(3), file)
        ...     sorted(graphml(3, path=file).edges)
        [(0, 1), (1, 2)]
    """
    source = _Source("graphml", path)
    content = read_bytes(path, "graphml")
    nodes, edges = _scan(content, source)
    try:
        tree = ElementTree.fromstring(content)
        for element in tree.iter():
            if element.tag.rpartition("}")[2] == "key":
                # networkx ignores keys for all elements, and reads the weight 1_0 as 10.
                if element.get("for", "all") == "all":
                    element.set("for", "edge")
                if element.get("attr.name") == "weight":
                    element.set("attr.type", "string")
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # about ports and keys without a type
            graph = nx.parse_graphml(ElementTree.tostring(tree, encoding="unicode"))
    except (nx.NetworkXError, SyntaxError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"graphml: {str(path)!r} is not a GraphML file ({error})") from error
    for kind, read, written in (("agent", graph.nodes, nodes), ("edge", graph.edges, edges)):
        if lost := next((line for element, line in written.items() if element not in read), None):
            raise source.mistake(lost, f"holds an {kind} of a second or inner graph, but a file must hold one graph")
    default = graph.graph.pop("edge_default")
    graph.graph.pop("node_default")
    # A graph may name its policy, but a name such as module:function would run code.
    policy = graph.graph.get("policy")
    if policy is not None and not (isinstance(policy, str) and policy.isidentifier()):
        raise ValueError(f"graphml: {str(path)!r} names the policy {policy!r}, but a file may name only built-in ones")
    for u, v, attributes in graph.edges(data=True):
        for name, value in default.items():
            attributes.setdefault(name, value)
        if "weight" in attributes:
            attributes["weight"] = source.weight(edges[u, v], attributes["weight"])
    return _finish(graph, num_agents, source, nodes)


def _scan(content: bytes, source: "_Source") -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Return the lines of the agents and edges of a GraphML file; raise if it repeats or omits something."""
    parser = expat.ParserCreate(namespace_separator=" ")
    edges: dict[tuple[str, str], int] = {}
    declared: dict[str, dict[str, int]] = {"agent": {}, "key": {}, "edge attribute": {}}
    names: dict[str, str] = {}
    """Names of the attributes by key."""
    given: list[dict[str, int]] = [{}]
    """The lines of the attributes of each open element."""
    directed = []

    def declare(what: str, name: str, line: int) -> None:
        if name in declared[what]:
            raise source.mistake(line, f"declares the {what} {name!r} of line {declared[what][name]} again")
        declared[what][name] = line

    def start(tag: str, attributes: dict[str, str]) -> None:
        space, _, element = tag.rpartition(" ")
        line = parser.CurrentLineNumber
        siblings = given[-1]
        given.append({})
        if space not in ("", "http://graphml.graphdrawing.org/xmlns"):
            return
        if missing := next((name for name in _NEEDED.get(element, ()) if name not in attributes), None):
            raise source.mistake(line, f"holds a <{element}> without '{missing}'")
        for name, allowed in _ALLOWED.items():
            if name in attributes and attributes[name] not in allowed:
                raise source.mistake(
                    line, f"has {name}={attributes[name]!r}, but allowed are {allowed[0]!r} and {allowed[1]!r}"
                )
        if element == "graph":
            directed.append(attributes["edgedefault"] == "directed")
        elif element == "node":
            declare("agent", attributes["id"], line)
        elif element == "key":
            declare("key", attributes["id"], line)
            names[attributes["id"]] = name = attributes.get("attr.name", attributes["id"])
            if attributes.get("for", "all") in ("edge", "all"):
                declare("edge attribute", name, line)
        elif element == "data":
            name = names.get(attributes["key"], attributes["key"])
            if name in siblings:
                raise source.mistake(line, f"gives the attribute {name!r} of line {siblings[name]} again")
            siblings[name] = line
        elif element == "edge":
            edge = attributes["source"], attributes["target"]
            if edge in edges:
                first = edges[edge]
                raise source.mistake(
                    line, f"has the same agents as the edge on line {first}, but two agents may have one edge at most"
                )
            edges[edge] = line
            if not any(directed):
                edges[edge[::-1]] = line

    def end(tag: str) -> None:
        given.pop()

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(f"graphml: {str(source.path)!r} is not a GraphML file ({error})") from error
    nodes = declared["agent"]
    for edge, line in edges.items():
        for agent in edge:
            if agent not in nodes:
                raise source.mistake(line, f"holds an edge of the agent {agent!r}, which no <node> declares")
    return nodes, edges


_NEEDED = {
    "graph": ["edgedefault"],
    "node": ["id"],
    "edge": ["source", "target"],
    "key": ["id"],
    "data": ["key"],
}
_ALLOWED = {"edgedefault": ("directed", "undirected"), "directed": ("true", "false")}
"""Attributes that GraphML requires of elements and networkx does not check."""

_Entry = tuple[int, str, Sequence[tuple[str, float | None]]]
"""A line number, an agent on it, and its receivers with their weights."""

_WORD = re.compile(r"[^ \t\n\v\f\r]+")
_INTEGER = re.compile(r"-?[0-9]+")
_NO_WORDS = {
    re.compile(r"#"): "a comment must begin after a blank",
    re.compile(r"^(//|%)"): "a comment must begin with '#'",
    re.compile(r"[,;|]|--|->|<-|^:|:$"): "names and weights must be separated by blanks alone",
    re.compile(r"^[\W_]*$"): "a name must have a letter or a digit",
}
"""Patterns of other formats, whose words would be taken for agents, and what to write instead."""


@dataclass(frozen=True)
class _Source:
    """A file, and the topology that reads it."""

    family: str
    path: str | Path

    def mistake(self, line: int, what: str) -> ValueError:
        return ValueError(f"{self.family}: line {line} of {str(self.path)!r} {what}")

    def words(self) -> Iterator[tuple[int, list[str]]]:
        """Split the lines into words, leaving out comments."""
        text = decode(read_bytes(self.path, self.family), self.path, self.family)
        for line, content in enumerate(io.StringIO(text, newline=None), 1):
            words = _WORD.findall(content)
            for place, word in enumerate(words):
                if word.startswith("#"):
                    del words[place:]
                    break
                if not word.isprintable():
                    raise self.mistake(line, f"holds {word!r}, but a name must have no invisible characters")
                if rule := next((rule for pattern, rule in _NO_WORDS.items() if pattern.search(word)), None):
                    raise self.mistake(line, f"holds {word!r}, but {rule}")
            if words:
                yield line, words

    def weight(self, line: int, given: Any) -> float:
        """Read a weight, a number or text."""
        is_number = isinstance(given, str | int | float) and not isinstance(given, bool)
        try:
            weight = float(given) if is_number and "_" not in str(given) else math.nan
        except (ValueError, OverflowError):
            weight = math.nan
        if not math.isfinite(weight):
            raise self.mistake(line, f"gives an edge the weight {given!r}, but a weight must be a finite number")
        return weight


def _assemble(
    entries: Iterable[_Entry], source: _Source, *, directed: bool
) -> tuple[nx.Graph | nx.DiGraph, dict[str, int]]:
    """Build the graph without losing anything in the file; also return the line on which each agent first appears."""
    graph = nx.DiGraph() if directed else nx.Graph()
    agents: dict[str, int] = {}
    edges: dict[tuple[str, str], int] = {}
    for line, sender, receivers in entries:
        agents.setdefault(sender, line)
        graph.add_node(sender)
        for receiver, weight in receivers:
            agents.setdefault(receiver, line)
            if (sender, receiver) in edges:
                first = edges[sender, receiver]
                raise source.mistake(line, f"repeats the edge from {sender!r} to {receiver!r} of line {first}")
            before = None if directed else edges.get((receiver, sender))
            if before is not None and graph.edges[sender, receiver].get("weight") != weight:
                raise source.mistake(
                    line, f"gives the edge of {sender!r} and {receiver!r} another weight than line {before}"
                )
            edges[sender, receiver] = line
            graph.add_edge(sender, receiver, **({} if weight is None else {"weight": weight}))
    return graph, agents


def _finish(graph: nx.Graph, num_agents: int | None, source: _Source, lines: dict[str, int]) -> nx.Graph:
    """Check the number of agents; if all labels are integers, convert and sort them."""
    name = repr(str(source.path))
    if not graph:
        raise ValueError(f"{source.family}: {name} holds no agent")
    if num_agents is not None and num_agents != len(graph):
        raise ValueError(
            f"{source.family}: num_agents is {num_agents}, but {name} has {len(graph)} agents; "
            f"give {len(graph)} or leave the number out"
        )
    first: dict[Decimal | str, str] = {}
    for label in map(str, graph):
        read = _read(label)
        if (other := first.setdefault(read, label)) != label:
            same = f"canonically equivalent to {other!a}" if isinstance(read, str) else f"the same number as {other!r}"
            shown = ascii(label) if isinstance(read, str) else repr(label)
            raise source.mistake(lines[label], f"names the agent {shown}, which is {same} on line {lines[other]}")
    if not all(_INTEGER.fullmatch(str(label)) for label in graph):
        return graph
    numbers = {label: int(label) for label in graph}
    ordered = graph.__class__()
    ordered.graph.update(graph.graph)
    ordered.add_nodes_from((number, graph.nodes[label]) for label, number in sorted(numbers.items(), key=itemgetter(1)))
    ordered.add_edges_from((numbers[u], numbers[v], data) for u, v, data in graph.edges(data=True))
    return ordered


def _read(label: str) -> Decimal | str:
    """Return the canonical form of an agent's label: its exact number, or its text in Unicode form NFC."""
    try:
        number = Decimal(label)
    except InvalidOperation:
        number = Decimal("nan")
    return number if number.is_finite() and "_" not in label else unicodedata.normalize("NFC", label)
