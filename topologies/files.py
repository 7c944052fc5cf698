"""Graphs read from a file."""

from pathlib import Path

import networkx as nx

__all__ = ["edge_list"]


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
        raise ValueError(f"edge_list: path is {str(path)!r}, which cannot be read ({error.strerror})") from error
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
    if num_agents is not None and num_agents != len(graph):
        raise ValueError(
            f"edge_list: num_agents is {num_agents}, but {str(path)!r} has {len(graph)} agents; "
            f"give {len(graph)} or leave the number out"
        )
    return _with_integer_labels(graph)


def _with_integer_labels(graph: nx.Graph) -> nx.Graph:
    try:
        numbers = {label: int(label) for label in graph}
    except ValueError:
        return graph
    ordered = graph.__class__()
    ordered.add_nodes_from(sorted(numbers.values()))
    ordered.add_edges_from((numbers[u], numbers[v], data) for u, v, data in graph.edges(data=True))
    return ordered
