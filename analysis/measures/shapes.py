"""Tables of the loss around the points of a run: slices, planes with the agents in them, and barriers."""

from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms import draws
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.scales import filter_normalized
from basinet.analysis.measures.measure import Found, Needs, NetworkMeasure
from basinet.analysis.measures.measured import Network, Points, repeated
from basinet.analysis.measures.surface import barriers, line_losses, path_losses, plane_losses, principal_plane
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import Row

__all__ = ["AgentBarriers", "LossSlices", "LossSurface", "RandomPlane", "random_directions"]

Few = Annotated[int, Field(ge=1, le=100)]
Positions = Annotated[int, Field(ge=2, le=10**4)]


def random_directions(center: Points, count: int = 2) -> list[Tensor]:
    """Draw filter-normalised random directions; biases and other vectors are zero.

    Args:
        center: The point whose filter norms they get.
        count: Number of directions.

    Returns:
        Directions [1, P], the same at every call.
    """
    point, shapes = center.hessian.points.double(), center.hessian.objective.shapes
    drawn = (draws.normal(center.folded(5 + number), (point.shape[1],)) for number in range(count))
    return [filter_normalized(direction, point, shapes) for direction in drawn]


class LossSlices(NetworkMeasure):
    """Loss along top eigenvectors and random directions (table).

    Random directions are filter-normalised if the model has filters; eigenvectors are scaled to the same length.

    Args:
        eigenvectors: Number of top eigenvectors.
        directions: Number of random directions.
        positions: Points per slice.

    References:
        Li et al.: Visualizing the loss landscape of neural nets, NeurIPS 2018, arXiv:1712.09913.
    """

    trial: ClassVar = {"positions": 2}

    def __init__(self, eigenvectors: Few = 2, directions: Few = 2, positions: Positions = 41) -> None:
        self.eigenvectors, self.directions, self.positions = eigenvectors, directions, positions
        self.needs = Needs(centroid=True, snapshot=True, top=eigenvectors)

    def of(self, network: Network) -> Found:
        """See `NetworkMeasure`."""
        center = network.center
        centroid, (space, _) = center.hessian, center.snapshot
        sharp = space.vectors(0, space.ritz(0)[1][:, : -self.eigenvectors - 1 : -1])
        names = [f"eigenvector {number + 1}" for number in range(len(sharp))]
        directions = [vector[None] for vector in sharp]
        length = 1.0
        if any(len(shape) > 1 for shape in centroid.objective.shapes.values()):
            directions += random_directions(center, self.directions)
            names += [f"random {number + 1}" for number in range(self.directions)]
            # Eigenvectors get the length of a random direction, so that all slices share one axis.
            length = float(directions[-1].norm())
        positions = np.linspace(-1, 1, self.positions)
        rows = []
        for name, direction in zip(names, directions, strict=True):
            step = direction / direction.norm() * length
            losses = line_losses(centroid, step, positions.tolist())[0]
            for t, loss in zip(positions.tolist(), losses.tolist(), strict=True):
                rows.append({"table": "slices", "direction": name, "position": t * length, "loss": loss})
        return Found([], rows)


class LossSurface(NetworkMeasure):
    """Loss in the plane of the agents' two principal components (tables).

    Args:
        positions: Grid points per side of the plane.

    References:
        Antognini, Sohl-Dickstein: PCA of high dimensional random walks with comparison to neural network training,
        NeurIPS 2018, arXiv:1806.08805.
    """

    trial: ClassVar = {"positions": 2}

    def __init__(self, positions: Positions = 21) -> None:
        self.positions = positions

    def of(self, network: Network) -> Found:
        """See `NetworkMeasure`."""
        centroid, agents = network.center.hessian, network.agents()
        plane = principal_plane(agents.points, network.weights.to(agents.points.device), centroid.points[0])
        reach = 1.5 * float(plane.coordinates.abs().max())
        if reach == 0:  # the agents agree and span no plane
            return Found([])
        ticks = np.linspace(-reach, reach, self.positions).tolist()
        rows = _plane("surface", centroid, plane.origin, plane.axes, ticks)
        explained = plane.explained.tolist()
        for k, (x, y) in zip(network.names, plane.coordinates.tolist(), strict=True):
            place = {"table": "surface_agents", "agent": k, "x": x, "y": y}
            rows.append({**place, "explained_x": explained[0], "explained_y": explained[1]})
        return Found([], rows)


class RandomPlane(NetworkMeasure):
    """Loss in a plane of two filter-normalised random directions (tables).

    Args:
        positions: Grid points per side of the plane.

    References:
        Li et al.: Visualizing the loss landscape of neural nets, NeurIPS 2018, arXiv:1712.09913.
    """

    needs = Needs(centroid=True, weights=True)
    trial: ClassVar = {"positions": 2}

    def __init__(self, positions: Positions = 21) -> None:
        self.positions = positions

    def of(self, network: Network) -> Found:
        """See `NetworkMeasure`."""
        centroid = network.center.hessian
        axes = torch.cat(random_directions(network.center))
        ticks = np.linspace(-1, 1, self.positions).tolist()
        rows = _plane("random_plane", centroid, centroid.points[0].double(), axes, ticks)
        deltas = network.agents().points.double() - centroid.points.double()
        # Least squares, as the axes are not quite orthogonal.
        places = torch.linalg.solve(axes @ axes.T, axes @ deltas.T).T
        off = (deltas - places @ axes).norm(dim=1)
        for k, (x, y), distance in zip(network.names, places.tolist(), off.tolist(), strict=True):
            rows.append({"table": "random_plane_agents", "agent": k, "x": x, "y": y, "off_plane": distance})
        return Found([], rows)


def _plane(table: str, centroid: Curvature, origin: Tensor, axes: Tensor, ticks: list[float]) -> list[Row]:
    """Evaluate the loss on a grid in a plane."""
    losses = plane_losses(centroid, origin, axes, ticks, ticks)
    return [
        {"table": table, "x": x, "y": y, "loss": float(losses[i, j])}
        for i, x in enumerate(ticks)
        for j, y in enumerate(ticks)
    ]


class AgentBarriers(NetworkMeasure):
    """Loss barrier on the straight path from the centroid to each agent (table).

    The largest rise above the line between the ends: ``B = max_t J(x̄ + t δ_k) − (1 − t) J(x̄) − t J(x_k)``.

    Args:
        positions: Points per path, ends included.

    References:
        Frankle et al.: Linear mode connectivity and the lottery ticket hypothesis, ICML 2020, arXiv:1912.05671.
    """

    label = "loss barriers to the agents"
    beside: ClassVar = {
        "barrier": Quantity("loss barrier between centroid and agent", "barrier", direction="smaller"),
    }
    trial: ClassVar = {"positions": 3}

    def __init__(self, positions: Annotated[int, Field(ge=3, le=10**4)] = 11) -> None:
        self.positions = positions

    def of(self, network: Network) -> Found:
        """See `NetworkMeasure`."""
        agents = network.agents()
        middle = Curvature(agents.objective, *repeated(network.center.hessian, agents.num_points))
        positions, losses = path_losses(middle, agents, self.positions)
        heights = barriers(positions, losses).tolist()
        tables: list[Row] = []
        for k, path in zip(network.names, losses.tolist(), strict=True):
            rows = zip(positions.tolist(), path, strict=True)
            tables += [{"table": "barriers", "agent": k, "position": t, "loss": loss} for t, loss in rows]
        found = [{"agent": k, "barrier": height} for k, height in zip(network.names, heights, strict=True)]
        return Found(found, tables)
