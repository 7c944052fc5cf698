"""Graphs read from a file."""

from operator import itemgetter
from pathlib import Path

import networkx as nx
import numpy as np

from basinet.topologies.matrices import read_matrix

__all__ = ["adjacency_list", "adjacency_matrix", "edge_list", "graphml"]


def edge_list(num_agents: int | None, *, path: str | Path, directed: bool = False) -> nx.Graph:
    r"""The graph of a text file with one edge a line: two agents and, if wanted, a weight.

    Columns are separated by blanks, ``#`` starts a comment, and names ending in .gz or .bz2 are
    decompressed. The weight becomes the edge attribute ``weight``, which the policy `weights` uses.

    Args:
        num_agents: Number of agents that the file must have; None takes as many as it has.
        path: The file.
        directed: Whether the line ``u v`` means only that u sends to v. By default both send.

    Returns:
        Graph with the file's labels. If all of them are integers, the nodes are integers in increasing
        order; otherwise they are strings in the order in which the file names them.

    Raises:
        ValueError: If the file cannot be read, holds no edge, or has another number of agents.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "triangle.txt"
        ...     _ = file.write_text("0 1 0.3\n1 2 0.3\n2 0 0.3\n")
        ...     edge_list(3, path=file).edges[0, 1]
        {'weight': 0.3}
    """
    try:
        graph = nx.read_edgelist(str(path), create_using=nx.DiGraph if directed else nx.Graph, data=[("weight", float)])
    except OSError as error:
        raise ValueError(_unreadable("edge_list", path, error)) from error
    except (IndexError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"edge_list: {str(path)!r} is not an edge list ({error}); each line must hold two agents and at "
            "most a weight, separated by blanks"
        ) from error
    if not graph:
        raise ValueError(
            f"edge_list: {str(path)!r} holds no edge; each line must hold two agents and at most a weight, "
            "separated by blanks"
        )
    return _with_size(graph, num_agents, "edge_list", path)


def adjacency_list(num_agents: int | None, *, path: str | Path, directed: bool = False) -> nx.Graph:
    r"""The graph of a text file with one agent a line, followed by its neighbours.

    Columns are separated by blanks, ``#`` starts a comment, and names ending in .gz or .bz2 are
    decompressed. An edge between two agents may stand on the line of either, or of both.

    Args:
        num_agents: Number of agents that the file must have; None takes as many as it has.
        path: The file.
        directed: Whether the line ``u v w`` means only that u sends to v and w. By default both send.

    Returns:
        Graph with the file's labels. If all of them are integers, the nodes are integers in increasing
        order; otherwise they are strings in the order in which the file names them.

    Raises:
        ValueError: If the file cannot be read, holds no agent, or has another number of agents.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "star.txt"
        ...     _ = file.write_text("0 1 2 3\n")
        ...     sorted(adjacency_list(4, path=file).edges)
        [(0, 1), (0, 2), (0, 3)]
    """
    try:
        graph = nx.read_adjlist(str(path), create_using=nx.DiGraph if directed else nx.Graph)
    except OSError as error:
        raise ValueError(_unreadable("adjacency_list", path, error)) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"adjacency_list: {str(path)!r} is not an adjacency list ({error}); each line must hold an agent and "
            "its neighbours, separated by blanks"
        ) from error
    return _with_size(graph, num_agents, "adjacency_list", path)


def adjacency_matrix(num_agents: int | None, *, path: str | Path, directed: bool = False) -> nx.Graph:
    r"""The graph of a matrix in a file: an edge wherever the entry [u, v] is not zero.

    The endings .npz (a sparse matrix, as scipy.sparse.save_npz writes it), .npy (an array, as numpy.save does)
    and .csv (numbers separated by commas) are known. The entry becomes the edge attribute ``weight``, which the
    policy `weights` uses.

    Args:
        num_agents: Number of agents that the matrix must have; None takes as many as it has.
        path: The file.
        directed: Whether the entry [u, v] means only that u sends to v. By default both send, and the matrix must
            be symmetric.

    Returns:
        Graph on the nodes 0..K-1.

    Raises:
        ValueError: If the file cannot be read, or its matrix is not square, not finite, not symmetric where it must
            be, or of another number of agents.

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
        raise ValueError(f"adjacency_matrix: {str(path)!r} holds a number that is not finite")
    if not directed and (matrix != matrix.T).nnz:
        raise ValueError(
            f"adjacency_matrix: {str(path)!r} is not symmetric, but an undirected graph's matrix must be; "
            "set directed to true, or make it so"
        )
    graph = nx.from_scipy_sparse_array(matrix, create_using=nx.DiGraph if directed else nx.Graph)
    return _with_size(graph, num_agents, "adjacency_matrix", path)


def graphml(num_agents: int | None, *, path: str | Path) -> nx.Graph:
    """The graph of a GraphML file, as networkx, Gephi, yEd or igraph write it, with all its attributes.

    Args:
        num_agents: Number of agents that the file must have; None takes as many as it has.
        path: The file; names ending in .gz or .bz2 are decompressed.

    Returns:
        Graph, or DiGraph if the file says so, with the file's labels. If all of them are integers, the nodes are
        integers in increasing order; otherwise they are strings in the order of the file.

    Raises:
        ValueError: If the file cannot be read, holds no agent or two edges between the same agents, or has another
            number of agents.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "path.graphml"
        ...     nx.write_graphml(nx.path_graph(3), file)
        ...     sorted(graphml(3, path=file).edges)
        [(0, 1), (1, 2)]
    """
    try:
        graph = nx.read_graphml(str(path))
    except OSError as error:
        raise ValueError(_unreadable("graphml", path, error)) from error
    except (nx.NetworkXError, SyntaxError, LookupError, ValueError) as error:
        # Both XML parsers of Python raise SyntaxErrors.
        raise ValueError(f"graphml: {str(path)!r} is not a GraphML file ({error})") from error
    if graph.is_multigraph():
        raise ValueError(f"graphml: {str(path)!r} has two edges between the same agents, but may have one at most")
    return _with_size(graph, num_agents, "graphml", path)


def _unreadable(family: str, path: str | Path, error: OSError) -> str:
    return f"{family}: path is {str(path)!r}, which cannot be read ({error.strerror or error})"


def _with_size(graph: nx.Graph, num_agents: int | None, family: str, path: str | Path) -> nx.Graph:
    if not graph:
        raise ValueError(f"{family}: {str(path)!r} holds no agent")
    if num_agents is not None and num_agents != len(graph):
        raise ValueError(
            f"{family}: num_agents is {num_agents}, but {str(path)!r} has {len(graph)} agents; "
            f"give {len(graph)} or leave the number out"
        )
    return _with_integer_labels(graph)


def _with_integer_labels(graph: nx.Graph) -> nx.Graph:
    try:
        numbers = {label: int(label) for label in graph}
    except ValueError:
        return graph
    ordered = graph.__class__()
    ordered.add_nodes_from((number, graph.nodes[label]) for label, number in sorted(numbers.items(), key=itemgetter(1)))
    ordered.add_edges_from((numbers[u], numbers[v], data) for u, v, data in graph.edges(data=True))
    return ordered
