"""The loss around the points of a run, as tables to draw: slices, a plane with the agents in it, and barriers."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.scales import filter_normalized
from basinet.analysis.measures.families import Attempts
from basinet.analysis.measures.snapshot import NUM_EIGENVECTORS
from basinet.analysis.measures.surface import barriers, line_losses, path_losses, plane_losses, principal_plane
from basinet.analysis.runs.sites import Bench, Sites, repeated
from basinet.sim.run.records import Row

__all__ = ["measure_shapes"]

NUM_RANDOM = 2


def measure_shapes(
    bench: Bench, replica: int, center: Sites, agents: Callable[[], Curvature], attempts: Attempts
) -> tuple[list[Row], list[Row]]:
    """Evaluate the loss on lines and planes.

    Args:
        bench: Model, task and samples.
        replica: Which replica it is.
        center: Its centroid, under all samples.
        agents: Gives its honest agents.
        attempts: Takes note of what fails.

    Returns:
        Rows of metrics, each with its `agent`, and rows of tables, each with the name of its `table`.
    """
    honest, weights = bench.honest(replica), bench.weights(replica)
    parts: dict[str, Callable[[], tuple[list[Row], list[Row]]]] = {
        "loss_slices": lambda: ([], _slices(center)),
        "loss_surface": lambda: ([], _surface(center, agents(), weights, honest)),
        "random_plane": lambda: ([], _random_plane(center, agents(), honest)),
        "agent_barriers": lambda: _barriers(center, agents(), honest),
    }
    found: list[Row] = []
    tables: list[Row] = []
    for name, part in parts.items():
        rows, more = attempts.take([name], part)
        found += [{key if key == "agent" else f"{key}{bench.suffix}": value for key, value in r.items()} for r in rows]
        tables += [{**row, "table": f"{row['table']}{bench.suffix}"} for row in more]
    return found, tables


def _barriers(center: Sites, agents: Curvature, names: list[int]) -> tuple[list[Row], list[Row]]:
    """Evaluate the loss on the way from the centroid to each agent."""
    middle = Curvature(agents.objective, *repeated(center.hessian, agents.num_points))
    positions, losses = path_losses(middle, agents, center.effort.positions[2])
    heights = barriers(positions, losses).tolist()
    tables: list[Row] = []
    for k, path in zip(names, losses.tolist(), strict=True):
        rows = zip(positions.tolist(), path, strict=True)
        tables += [{"table": "barriers", "agent": k, "position": t, "loss": loss} for t, loss in rows]
    return [{"agent": k, "barrier": height} for k, height in zip(names, heights, strict=True)], tables


def _slices(center: Sites) -> list[Row]:
    """Cut through the centroid along its sharpest directions, and along random ones with the filters' norms."""
    centroid, (space, _) = center.hessian, center.snapshot
    sharp = space.vectors(0, space.ritz(0)[1][:, : -NUM_EIGENVECTORS - 1 : -1])
    names = [f"eigenvector {number + 1}" for number in range(len(sharp))]
    directions = [vector[None] for vector in sharp]
    shapes = centroid.objective.shapes
    length = 1.0
    if any(len(shape) > 1 for shape in shapes.values()):
        directions += _random_directions(center)
        names += [f"random {number + 1}" for number in range(NUM_RANDOM)]
        # Eigenvectors are as long as a random direction, so that all slices share one axis.
        length = float(directions[-1].norm())
    positions = np.linspace(-1, 1, center.effort.positions[0])
    rows = []
    for name, direction in zip(names, directions, strict=True):
        step = direction / direction.norm() * length
        losses = line_losses(centroid, step, positions.tolist())[0]
        for t, loss in zip(positions.tolist(), losses.tolist(), strict=True):
            rows.append({"table": "slices", "direction": name, "position": t * length, "loss": loss})
    return rows


def _random_directions(center: Sites) -> list[Tensor]:
    """Draw directions [1, P] whose filters are as long as the centroid's; biases and other vectors are zero."""
    point, shapes = center.hessian.points.double(), center.hessian.objective.shapes
    drawn = (draws.normal(draws.fold(center.keys, 5 + number), (point.shape[1],)) for number in range(NUM_RANDOM))
    return [filter_normalized(direction, point, shapes) for direction in drawn]


def _random_plane(center: Sites, agents: Curvature, names: list[int]) -> list[Row]:
    """Evaluate the plane through the centroid along two random directions, with the agents projected into it."""
    # As in Li et al., NeurIPS 2018, arXiv:1712.09913; the axes are the random directions of the slices.
    centroid = center.hessian
    axes = torch.cat(_random_directions(center))
    ticks = np.linspace(-1, 1, center.effort.positions[1]).tolist()
    losses = plane_losses(centroid, centroid.points[0].double(), axes, ticks, ticks)
    rows: list[Row] = [
        {"table": "random_plane", "x": x, "y": y, "loss": float(losses[i, j])}
        for i, x in enumerate(ticks)
        for j, y in enumerate(ticks)
    ]
    deltas = agents.points.double() - centroid.points.double()
    # The nearest points of the plane, whose axes are not quite at right angles.
    places = torch.linalg.solve(axes @ axes.T, axes @ deltas.T).T
    off = (deltas - places @ axes).norm(dim=1)
    for k, (x, y), distance in zip(names, places.tolist(), off.tolist(), strict=True):
        rows.append({"table": "random_plane_agents", "agent": k, "x": x, "y": y, "off_plane": distance})
    return rows


def _surface(center: Sites, agents: Curvature, weights: Tensor, names: list[int]) -> list[Row]:
    """Evaluate the plane through the centroid in which the agents spread most."""
    centroid = center.hessian
    plane = principal_plane(agents.points, weights.to(agents.points.device), centroid.points[0])
    reach = 1.5 * float(plane.coordinates.abs().max())
    if reach == 0:  # the agents agree: there is no plane of theirs
        return []
    ticks = np.linspace(-reach, reach, center.effort.positions[1])
    losses = plane_losses(centroid, plane.origin, plane.axes, ticks.tolist(), ticks.tolist())
    rows: list[Row] = [
        {"table": "surface", "x": x, "y": y, "loss": float(losses[i, j])}
        for i, x in enumerate(ticks.tolist())
        for j, y in enumerate(ticks.tolist())
    ]
    explained = plane.explained.tolist()
    for k, (x, y) in zip(names, plane.coordinates.tolist(), strict=True):
        place = {"table": "surface_agents", "agent": k, "x": x, "y": y}
        rows.append({**place, "explained_x": explained[0], "explained_y": explained[1]})
    return rows
