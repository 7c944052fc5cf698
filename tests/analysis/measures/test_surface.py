"""Slices, paths, barriers and planes, on losses that are known everywhere."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.measures.surface import barriers, line_losses, path_losses, plane_losses, principal_plane


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))
        self.register_buffer("counter", torch.zeros((), dtype=torch.int64))


def well(model: nn.Module, _: tuple[Tensor, ...]) -> Tensor:
    """A double well along the first coordinate, a parabola along the second."""
    x, y = model.theta
    return (x**2 - 1) ** 2 + y**2 + model.shift


def at(*points: list[float], shifts: list[float] | None = None) -> Curvature:
    buffers = None
    if shifts is not None:
        buffers = {"shift": torch.tensor(shifts).double(), "counter": torch.arange(len(shifts))}
    objective = Objective(Point(), well, (torch.zeros(1),))
    return Curvature(objective, torch.tensor(points, dtype=torch.float64), buffers)


def test_slices() -> None:
    here = at([1.0, 0.0], [0.0, 2.0])
    directions = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    found = line_losses(here, directions, [-1.0, 0.0, 0.5])
    assert found.shape == (2, 2, 3)
    np.testing.assert_allclose(found[0, 0], [1, 0, (1.5**2 - 1) ** 2])
    np.testing.assert_allclose(found[0, 1], [4, 5, 0.75**2 + 4])
    np.testing.assert_allclose(found[1, 0], [1, 0, 0.25])
    np.testing.assert_allclose(line_losses(here, directions[1], [0.5])[:, 0], found[1, :, 2])


def test_the_barrier_between_two_wells() -> None:
    positions, losses = path_losses(at([-1.0, 0.0], [1.0, 0.0]), at([1.0, 0.0], [1.0, 1.0]), 11)
    np.testing.assert_allclose(positions, np.linspace(0, 1, 11))
    assert losses[0, 0] == losses[0, -1] == 0.0
    np.testing.assert_allclose(barriers(positions, losses), [1.0, 0.0], atol=1e-15)
    _, back = path_losses(at([1.0, 0.0]), at([-1.0, 0.0]), 11)
    np.testing.assert_allclose(back[0], losses[0, ::-1], atol=1e-15)


def test_running_statistics_go_along() -> None:
    starts, ends = at([1.0, 0.0], shifts=[2.0]), at([1.0, 0.0], shifts=[6.0])
    _, losses = path_losses(starts, ends, 5)
    np.testing.assert_allclose(losses[0], [2, 3, 4, 5, 6])


def test_uneven_ends_are_no_barrier() -> None:
    t = np.linspace(0, 1, 5)
    assert barriers(t, 3 + 2 * t) == 0
    assert barriers(t, 3 + 2 * t + np.array([0, 0, 7, 0, 0])) == pytest.approx(7)


def test_the_principal_plane_of_a_flat_cloud() -> None:
    rng = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(50, 2, dtype=torch.float64, generator=rng))[0].T
    coordinates = torch.randn(7, 2, dtype=torch.float64, generator=rng) * torch.tensor([5.0, 1.0])
    pi = torch.rand(7, dtype=torch.float64, generator=rng)
    pi /= pi.sum()
    points = 3 + coordinates @ q
    plane = principal_plane(points, pi)
    np.testing.assert_allclose(plane.origin, pi @ points)
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(plane.origin + plane.coordinates @ plane.axes, points, atol=1e-12)
    assert plane.explained.sum().item() == pytest.approx(1)
    deltas = (points - plane.origin) * pi.sqrt()[:, None]
    singular = torch.linalg.svdvals(deltas)[:2] ** 2
    np.testing.assert_allclose(plane.explained, singular / singular.sum(), rtol=1e-10)


def test_a_trajectory_about_its_last_step() -> None:
    steps = torch.linspace(0, 3, 20, dtype=torch.float64)[:, None] * torch.tensor([[1.0, 2.0, 2.0]])
    plane = principal_plane(steps, origin=steps[-1])
    np.testing.assert_allclose(plane.coordinates[:, 0], np.linspace(9, 0, 20), rtol=0, atol=1e-12)
    np.testing.assert_allclose(plane.explained, [1, 0], atol=1e-12)
    assert (plane.axes[1] == 0).all()


def test_points_that_agree_span_no_plane() -> None:
    plane = principal_plane(torch.ones(4, 6))
    assert (plane.axes == 0).all() and (plane.explained == 0).all() and (plane.coordinates == 0).all()


def test_the_grid_of_a_plane() -> None:
    axes = torch.eye(2, dtype=torch.float64)
    found = plane_losses(at([9.0, 9.0]), torch.tensor([1.0, 0.0]).double(), axes, [-2.0, -1.0, 0.0], [0.0, 3.0])
    np.testing.assert_allclose(found, [[0, 9], [1, 10], [0, 9]], atol=1e-14)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        path_losses(at([1.0, 0.0]), at([1.0, 0.0]), 2)
    with pytest.raises(ValueError, match="needs one end, got 1 starts and 2 ends"):
        path_losses(at([1.0, 0.0]), at([1.0, 0.0], [0.0, 0.0]))
