"""The agents of a run on their graph, with what is known of each of them through time."""

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from basinet.analysis.plots.network.topology import load_weights, place_agents, usual_layout
from basinet.sim.run.folder import Run
from basinet.sim.run.records import read_table
from basinet.sim.run.trajectory import load_trajectory

__all__ = ["agents_of"]

_MOST_EDGES = 3000
_MOST_FRAMES = 200
_MOST_NUMBERS = 2e7
"""Most numbers of a trajectory that are read for one picture: fewer frames of a large model."""


def agents_of(run: Run, replica: int) -> dict[str, Any]:
    """Collect what a page shows of the agents of a run.

    Args:
        run: The run.
        replica: Number of the replica.

    Returns:
        `positions` of the agents, [K, 2]; `edges`, the neighbours and their weight, `edges_left_out`, how many light
        ones are left out, whether they are `directed`, and `curved`, so that those around a torus do not hide others;
        `attackers`; `labels`, and of each agent the `mix`: samples by label; and
        `values` by metric: `steps`, and the values of the agents at each. Of a run without a graph, `missing`: why.
    """
    matrix = load_weights(run)
    if matrix is None:
        return {"missing": f"{run.path} holds no topology.csv, so that there is no graph to show"}
    directed = bool(abs(matrix - matrix.T).max() > 1e-9)
    graph = nx.from_scipy_sparse_array(matrix.T, create_using=nx.DiGraph if directed else nx.Graph)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    topology = run.config.get("topology")
    layout = usual_layout(str(topology.get("name") if isinstance(topology, dict) else topology))
    positions = place_agents(matrix, layout)
    edges = sorted(((u, v, float(w)) for u, v, w in graph.edges(data="weight")), key=lambda edge: -edge[2])
    size = graph.number_of_nodes()
    labels, mix = _label_mix(run, replica, size)
    return {
        "positions": [[round(x, 4), round(y, 4)] for x, y in positions],
        "edges": edges[:_MOST_EDGES],
        "edges_left_out": max(0, len(edges) - _MOST_EDGES),
        "directed": directed,
        "curved": layout == "grid",
        "attackers": [int(r["agent"]) for r in read_table(run.path / "attackers.csv") if int(r["replica"]) == replica],
        "labels": labels,
        "mix": mix,
        "values": _measured(run, replica, size) | _distances(run, replica, size),
    }


def _label_mix(run: Run, replica: int, size: int) -> tuple[list[int], list[list[int]]]:
    """Count the samples of each agent by label."""
    rows = [row for row in read_table(run.path / "partition.csv") if int(row["replica"]) == replica]
    labels = sorted({int(row["label"]) for row in rows})
    counts = np.zeros((size, len(labels)), np.int64)
    for row in rows:
        counts[int(row["agent"]), labels.index(int(row["label"]))] += int(row["samples"])
    return labels, counts.tolist()


def _measured(run: Run, replica: int, size: int) -> dict[str, Any]:
    """Collect what the analysis has measured at the agents."""
    found: dict[str, dict[int, list[float | None]]] = {}
    for row in run.metrics:
        if row.get("agent", size) < size and row["replica"] == replica:
            for name, value in row.items():
                if name not in ("step", "replica", "agent") and np.isfinite(value):
                    frames = found.setdefault(name, {})
                    frames.setdefault(row["step"], [None] * size)[row["agent"]] = float(f"{value:.5g}")
    errors = {name for name in found if name.endswith("_error") and name.removesuffix("_error") in found}
    series = {}
    for name, frames in sorted(found.items(), key=lambda item: (not item[0].endswith("_loss"), item[0])):
        if name not in errors:
            steps = sorted(frames)
            chosen = [steps[place] for place in _spread(len(steps), _MOST_FRAMES)]
            series[name] = {"steps": chosen, "frames": [frames[step] for step in chosen]}
    return series


def _spread(count: int, most: int) -> list[int]:
    """Choose indices that are spread evenly, with the first and the last."""
    found: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return found


def _distances(run: Run, replica: int, size: int) -> dict[str, Any]:
    """Compute the distances of the agents from their centroid, if their trajectory was recorded."""
    trajectory = load_trajectory(run.path)
    if trajectory is None or trajectory.points.shape[2] != 1 + size or replica >= trajectory.points.shape[1]:
        return {}
    frames, _, points, parameters = trajectory.points.shape
    most = max(2, min(_MOST_FRAMES, int(_MOST_NUMBERS / (points * parameters))))
    chosen = _spread(frames, most)
    values = [_from_centroid(trajectory.points[frame, replica]) for frame in chosen]
    return {"distance": {"steps": trajectory.steps[chosen].tolist(), "frames": values}}


def _from_centroid(points: NDArray[Any]) -> Sequence[float | None]:
    norms = np.linalg.norm(points[1:].astype(np.float64) - points[0].astype(np.float64), axis=1)
    return [float(f"{norm:.5g}") if np.isfinite(norm) else None for norm in norms.tolist()]
