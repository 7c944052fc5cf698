"""The agents' graph with its mixing weights, and the spectrum of the mixing matrix."""

import csv
from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from scipy import sparse

from basinet.analysis.drawing.axes import finish, new_axes
from basinet.analysis.drawing.data_checks import kind_of, require
from basinet.analysis.drawing.sizes import cell_of
from basinet.analysis.drawing.style import ACCENT, GREY, MAIN, SHADES, contrast, ink
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run

__all__ = ["load_weights", "place_agents", "plot_spectrum", "plot_topology", "usual_layout"]

_MOST_NODES = 60
_MOST_PLACES = 4096  # if the agents' positions are given
_WEIGHT = "mixing weight"
_FULL_SIZE = 4.0  # inches; in smaller panels nodes and edges shrink
_SHADES = SHADES.reversed()
_MOST_MARKERS = 100
_ROUNDING = 1e-12


def load_weights(run: Run) -> sparse.csr_array | None:
    """Read the mixing matrix of a run.

    Args:
        run: A run.

    Returns:
        The matrix [K, K], whose row k holds the weights that agent k gives; None if the run has none.
    """
    path = run.path / "topology.csv"
    if not path.exists():
        return None
    with open(path, newline="", encoding="utf-8") as file:
        entries = [(int(row["receiver"]), int(row["sender"]), float(row["weight"])) for row in csv.DictReader(file)]
    if not entries:
        return None
    receivers, senders, weights = (np.array(column) for column in zip(*entries, strict=True))
    size = int(max(receivers.max(), senders.max())) + 1
    return sparse.csr_array((weights, (receivers, senders)), shape=(size, size))


def usual_layout(topology: str) -> str | None:
    """Return the layout in which a topology is easiest to recognise.

    Args:
        topology: Its name.

    Returns:
        `grid` for those that are grids; None for others, whose layout depends on the graph.
    """
    return "grid" if topology in ("grid", "torus") else None


def _layout(graph: nx.Graph, wanted: str | None) -> str:
    simple = nx.Graph(graph)
    regular = len({degree for _, degree in simple.degree()}) == 1
    return wanted or ("circular" if regular or not nx.is_connected(simple) else "spring")


def _columns(graph: nx.Graph) -> int:
    """Find the width of a grid numbered row by row, where each agent has an edge to the one in the next row."""
    size = graph.number_of_nodes()
    for count in range(2, size):
        if size % count == 0 and all(graph.has_edge(node, node + count) for node in range(size - count)):
            return count
    return ceil(sqrt(size))


def _positions(graph: nx.Graph, layout: str) -> dict[int, tuple[float, float]]:
    """Place the agents by a layout."""
    size = graph.number_of_nodes()
    if layout == "circular":
        angles = np.pi / 2 - 2 * np.pi * np.arange(size) / size
        return {node: (np.cos(angle), np.sin(angle)) for node, angle in zip(graph, angles, strict=True)}
    if layout == "grid":
        columns = _columns(graph)
        return {node: (index % columns, -(index // columns)) for index, node in enumerate(graph)}
    positions: dict[int, tuple[float, float]] = nx.spring_layout(graph, weight=None, seed=0, iterations=200)
    return positions


def place_agents(weights: sparse.csr_array, layout: str | None = None) -> list[tuple[float, float]]:
    """Place agents as `plot_topology` does.

    Args:
        weights: The mixing matrix W [K, K].
        layout: See `plot_topology`.

    Returns:
        A position for each agent.
    """
    graph = nx.from_scipy_sparse_array(weights.T)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    found = _positions(graph, _layout(graph, layout))
    return [(float(x), float(y)) for x, y in (found[node] for node in graph)]


def _draw_graph(
    matrix: sparse.csr_array,
    ax: Axes,
    wanted: str | None,
    norm: Normalize,
    places: Sequence[tuple[float, float]] | None,
    scale: float,
) -> None:
    directed = abs(matrix - matrix.T).max() > 1e-9
    # networkx draws an edge from u to v; the weight W[k, l] belongs to the message from l to k.
    graph = nx.from_scipy_sparse_array(matrix.T, create_using=nx.DiGraph if directed else nx.Graph)
    own = [float(weight) for weight in matrix.diagonal()]
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    weights = [weight for _, _, weight in graph.edges(data="weight")]
    layout = _layout(graph, wanted)
    positions = _positions(graph, layout) if places is None else dict(enumerate(places))
    small = len(own) > _MOST_NODES
    dot = scale * (max(4.0, 6000 / len(own)) if small else 260 if len(own) <= 30 else 130)
    if weights:
        thin = min(1.0, max(0.2, 2 * len(own) / len(weights)))  # many edges would blacken the figure
        style: dict[str, Any] = {
            "edge_color": [_SHADES(norm(weight)) for weight in weights],
            "width": [scale * thin * (1 + 4 * norm(weight)) for weight in weights],
        }
        if small:  # no room for arrows
            style |= {"arrows": False}
        elif directed or layout == "grid":  # curved, so that opposite and wrap-around edges do not hide others
            arrow = "-|>" if directed else "-"
            style |= {
                "arrows": True,
                "arrowstyle": arrow,
                "connectionstyle": "arc3,rad=0.15",
                "node_size": dot,
            }
        nx.draw_networkx_edges(graph, positions, ax=ax, **style)
    nx.draw_networkx_nodes(
        graph,
        positions,
        node_color=own,
        cmap=_SHADES,
        vmin=norm.vmin,
        vmax=norm.vmax,
        edgecolors=ink(),
        linewidths=0.3 if small else 1.0,
        node_size=dot,
        ax=ax,
    )
    for node, weight in [] if small else zip(graph, own, strict=True):
        ax.text(
            *positions[node],
            str(node),
            color=contrast(_SHADES(norm(weight))),
            fontsize=8 if dot > 200 else 6,
            ha="center",
            va="center",
        )
    corners = np.array([np.min([*positions.values()], 0), np.max([*positions.values()], 0)])
    span = float(np.ptp(corners, axis=0).max()) or 1.0
    room = np.maximum(np.ptp(corners, axis=0), span / 3) / 2  # of two agents, or of a row, one side would be zero
    ax.update_datalim([corners.mean(0) - room, corners.mean(0) + room])
    ax.margins(0.12)
    ax.autoscale_view()
    ax.set_aspect("equal")
    ax.set_axis_off()


def _draw_matrix(matrix: sparse.csr_array, ax: Axes, norm: Normalize) -> None:
    entries = matrix.tocoo()
    size = matrix.shape[0]
    dot = max(200 / size, 0.8)  # points: a cell of a panel about 200 points wide
    ax.scatter(
        entries.col,
        entries.row,
        c=entries.data,
        s=dot**2,
        marker="s",
        linewidths=0,
        cmap=_SHADES,
        norm=norm,
        rasterized=True,
    )
    ax.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    ax.set_xlabel("sender")
    ax.set_ylabel("receiver")


def plot_topology(
    weights: sparse.sparray | np.ndarray,
    *,
    ax: Axes | None = None,
    layout: str | None = None,
    positions: Sequence[tuple[float, float]] | None = None,
    scale: float = 1.0,
    colorbar: bool = True,
) -> Axes:
    """Draw a mixing matrix as a graph with weights, or as its nonzero entries for more than 60 agents.

    If the agents' positions are given, up to 4096 are drawn as a graph.

    Weights set the colour and width of edges; nodes are coloured by the agents' own weights, on the same scale.

    Args:
        weights: The mixing matrix W [K, K]; if it is not symmetric, arrows point from sender to receiver.
        ax: Where to draw; new axes if None.
        layout: `circular`, `grid` (row by row) or `spring`; if None, spring for connected irregular graphs,
            and circular for others.
        positions: Positions of the agents, [K, 2], instead of a layout.
        scale: Factor on the size of nodes and the width of edges, for small axes.
        colorbar: Whether to draw the scale of the weights.

    Returns:
        The axes.

    Raises:
        ExperimentError: If the matrix is not square.
        NoDataError: If there are no agents.
    """
    try:
        matrix = sparse.csr_array(weights, dtype=float)
    except (TypeError, ValueError):
        matrix = None
    if matrix is None or matrix.ndim != 2 or len(set(matrix.shape)) > 1:
        raise ExperimentError(f"weights: expected a square mixing matrix, not {kind_of(weights)}")
    require(range(matrix.shape[0]), "the mixing matrix has no agents to draw")
    ax = new_axes(ax)
    matrix.eliminate_zeros()
    norm = Normalize(0.0, max(float(matrix.max()), 1e-12))
    scale *= min(1.0, min(cell_of(ax)) / _FULL_SIZE) ** 2
    as_graph = matrix.shape[0] <= (_MOST_NODES if positions is None else _MOST_PLACES)
    if as_graph:
        _draw_graph(matrix, ax, layout, norm, positions, scale)
    else:
        _draw_matrix(matrix, ax, norm)
    if colorbar:
        label = f"{_WEIGHT} (nodes: of the agent itself)" if as_graph else _WEIGHT
        ax.figure.colorbar(ScalarMappable(norm, _SHADES), ax=ax, label=label, shrink=0.8)
    return ax


def plot_spectrum(eigenvalues: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Draw eigenvalues with their mixing rate: sorted if they are real, otherwise in the complex plane.

    The mixing rate is the largest modulus, excluding one eigenvalue 1. The nearer it is to zero, the faster the agents
    agree.

    Args:
        eigenvalues: All eigenvalues of a matrix whose rows sum to one, [K], real or complex.
        ax: Where to draw; new axes if None.

    Returns:
        The axes.

    Raises:
        ExperimentError: If `eigenvalues` is not a vector of numbers.
        NoDataError: If there are none.
    """
    try:
        values = np.asarray(eigenvalues) + 0.0
    except (TypeError, ValueError):
        values = np.zeros((0, 0))
    if values.ndim != 1:
        raise ExperimentError(f"eigenvalues: expected a vector of numbers, not {kind_of(eigenvalues)}")
    require(values, "there are no eigenvalues to draw")
    ax = new_axes(ax)
    rate = min(1.0, float(np.sort(np.abs(values))[-2])) if len(values) > 1 else 0.0
    label = f"mixing rate {rate if rate > _ROUNDING else 0:.4g}"
    if np.iscomplexobj(values):
        circle = np.exp(2j * np.pi * np.linspace(0, 1, 361))
        ax.plot(circle.real, circle.imag, color=GREY, linewidth=1)
        ax.plot(rate * circle.real, rate * circle.imag, color=ACCENT, linestyle="--", linewidth=1, label=label)
        ax.plot(values.real, values.imag, "o", color=MAIN, markersize=5, alpha=0.6)
        ax.set(xlabel="Re λ", ylabel="Im λ", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
        ax.set(xticks=np.linspace(-1, 1, 5), yticks=np.linspace(-1, 1, 5))
    else:
        order = np.arange(1, len(values) + 1)
        for sign, name in ((1, label), (-1, None)):
            ax.axhline(sign * rate, color=ACCENT, linestyle="--", linewidth=1, label=name)
        marked = "o-" if len(values) <= _MOST_MARKERS else "-"
        ax.plot(order, np.sort(values)[::-1], marked, color=MAIN, markersize=4, linewidth=1)
        lowest = min(float(values.min()), -rate)
        ax.set(xlabel="k", ylabel="eigenvalue λ_k", ylim=(lowest - 0.08, 1.08))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    return finish(ax, below=True)
