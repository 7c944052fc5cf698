"""What disagreement costs, against matrices and on quadratics, where it is exact."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.measures.disagreement import disagreement, implicit_regularization

PI = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def network(spread: float) -> tuple[Curvature, Curvature]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        data = torch.randn(30, 5, dtype=torch.float64), torch.randint(3, (30,))
        objective = Objective(model, loss, data)
        points = objective.point + spread * torch.randn(3, objective.num_parameters, dtype=torch.float64)
    return Curvature(objective, points), Curvature(objective, PI[None] @ points)


def test_the_measured_cost_is_the_quadratic_one_up_to_third_order() -> None:
    gaps = []
    for spread in (0.1, 0.05, 0.025):
        agents, centroid = network(spread)
        found = disagreement(agents, centroid, PI)
        deltas = (agents.points - centroid.points).numpy()
        size = deltas.shape[1]
        h = centroid.products(torch.eye(size, dtype=torch.float64)[:, None])[:, 0].numpy()
        exact = 0.5 * np.einsum("k,ki,ij,kj->", PI, deltas, h, deltas)
        assert found.quadratic == pytest.approx(exact, rel=1e-12)
        assert found.distance == pytest.approx(PI.numpy() @ (deltas**2).sum(1), rel=1e-12)
        assert found.alignment(np.trace(h), size) == pytest.approx(2 * exact / found.distance / np.trace(h) * size)
        gaps.append(abs(found.sharpness - found.quadratic))
    # The first-order term vanishes: halving the spread leaves an eighth of the difference, or less.
    assert gaps[1] < gaps[0] / 5 and gaps[2] < gaps[1] / 5


def test_the_captured_part_is_that_of_a_projection() -> None:
    agents, centroid = network(0.1)
    h = centroid.products(torch.eye(agents.points.shape[1], dtype=torch.float64)[:, None])[:, 0]
    vectors = torch.linalg.eigh(h)[1].T
    deltas = agents.points - centroid.points
    for count in (1, 4, len(vectors)):
        found = disagreement(agents, centroid, PI, vectors[-count:])
        part = PI @ (deltas @ vectors[-count:].T).square().sum(1) / (PI @ deltas.square().sum(1))
        assert found.captured == pytest.approx(float(part), rel=1e-12)
    assert found.captured == pytest.approx(1)


def test_agents_that_agree_have_no_direction() -> None:
    _, centroid = network(0.1)
    agents = Curvature(centroid.objective, centroid.points.expand(3, -1))
    found = disagreement(agents, centroid, PI)
    assert abs(found.sharpness) < 1e-14 and found.quadratic == found.distance == 0
    assert math.isnan(found.alignment(1.0, 10)) and math.isnan(found.captured)


def test_what_does_not_fit_is_refused() -> None:
    agents, centroid = network(0.1)
    with pytest.raises(ValueError, match="3 agents, 2 weights, 1 centroids"):
        disagreement(agents, centroid, PI[:2])
    with pytest.raises(ValueError, match="3 centroids"):
        disagreement(agents, agents, PI)


class Coordinates(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size, dtype=torch.float64))


def quartic(model: nn.Module, _: tuple[Tensor, ...]) -> Tensor:
    w = model.w
    return (w**4).sum() / 4 - (w**2).sum() / 2 + (w[0] * w[1]) ** 2


def test_the_implicit_regulariser_has_its_closed_form() -> None:
    """J = w⁴/4 − w²/2 in one coordinate: ½ Ξ (3 w̄² − 1), and its derivative 3 Ξ w̄."""

    def well(model: nn.Module, _: tuple[Tensor, ...]) -> Tensor:
        return (model.w**4 / 4 - model.w**2 / 2).sum()

    objective = Objective(Coordinates(1), well, (torch.zeros(1),))
    points = torch.tensor([[0.9], [0.5], [0.8]], dtype=torch.float64)
    mean, spread = float(PI @ points[:, 0]), float(PI @ (points[:, 0] - PI @ points[:, 0]) ** 2)
    value, slope = implicit_regularization(points, Curvature(objective, PI[None] @ points), PI)
    assert value == pytest.approx(spread * (3 * mean**2 - 1) / 2, rel=1e-12)
    assert slope.tolist() == pytest.approx([3 * spread * mean], rel=1e-12)


def test_the_mean_gradient_of_the_agents_is_that_of_the_regularised_loss() -> None:
    """Exactly so where agents lie on both sides of their centroid alike and the loss is a quartic."""
    objective = Objective(Coordinates(3), quartic, (torch.zeros(1),))
    rng = torch.Generator().manual_seed(0)
    center, half = torch.randn(1, 3, dtype=torch.float64, generator=rng), torch.randn(4, 3, generator=rng).double()
    agents = torch.cat([center + half, center - half])
    weights = torch.full((8,), 1 / 8, dtype=torch.float64)
    centroid = Curvature(objective, center)
    _, slope = implicit_regularization(agents, centroid, weights)
    wanted = weights @ Curvature(objective, agents).gradients() - centroid.gradients()[0]
    np.testing.assert_allclose(slope, wanted, rtol=1e-10, atol=1e-12)


def check_slope(agents: Tensor, centroid: Curvature, directions: int) -> None:
    _, slope = implicit_regularization(agents, centroid, PI)
    deltas = agents - centroid.points
    rng = torch.Generator().manual_seed(1)
    for _ in range(directions):
        u = torch.randn(1, deltas.shape[1], dtype=torch.float64, generator=rng)
        slopes = []
        for step in (4e-4, 2e-4):  # Ξ stays where it was
            moved = [centroid.points + sign * step * u for sign in (1, -1)]
            up, down = (implicit_regularization(m + deltas, centroid.at(m), PI)[0] for m in moved)
            slopes.append((up - down) / (2 * step))
        # Richardson: the error is that of the fourth power of the step, and rounding grows with the vectors.
        room = 1e-8 * float(slope.norm() * u.norm())
        assert float(slope @ u[0]) == pytest.approx((4 * slopes[1] - slopes[0]) / 3, rel=1e-7, abs=room)


@pytest.mark.parametrize("chunk", [None, 7])
def test_the_slope_of_a_network_is_that_of_central_differences(chunk: int | None) -> None:
    agents, centroid = network(0.2)
    objective = Objective(centroid.objective.model, loss, centroid.objective.samples.data, chunk=chunk)
    centroid = Curvature(objective, centroid.points)
    value, _ = implicit_regularization(agents.points, centroid, PI)
    assert value == pytest.approx(disagreement(agents, centroid, PI).quadratic, rel=1e-12)
    check_slope(agents.points, centroid, 3)


class Attention(nn.MultiheadAttention):
    def __init__(self) -> None:
        super().__init__(2, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        found: Tensor = super().forward(x, x, x, need_weights=False)[0]
        return found


LAYERS: dict[str, Callable[[], list[nn.Module]]] = {
    "silu": lambda: [nn.SiLU()],
    "layer norm": lambda: [nn.Tanh(), nn.LayerNorm(6)],
    "layer norm without weights": lambda: [nn.Tanh(), nn.LayerNorm(6, elementwise_affine=False)],
    "rms norm": lambda: [nn.Tanh(), nn.RMSNorm(6)],
    "group norm": lambda: [nn.Tanh(), nn.GroupNorm(2, 6, eps=0.1)],
    "instance norm": lambda: [nn.Tanh(), nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, 0.1, affine=True), nn.Flatten()],
    "batch norm": lambda: [nn.Tanh(), nn.BatchNorm1d(6)],
    "batch norm in training mode": lambda: [nn.Tanh(), nn.BatchNorm1d(6)],
    "batch norm of images in training mode": lambda: [
        nn.Tanh(), nn.Unflatten(1, (2, 3, 1)), nn.BatchNorm2d(2, affine=False), nn.Flatten(),
    ],
    "weight norm": lambda: [nn.Tanh(), nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))],
    "attention": lambda: [nn.Tanh(), nn.Unflatten(1, (3, 2)), Attention(), nn.Flatten()],
    "encoder": lambda: [
        nn.Unflatten(1, (3, 2)), nn.TransformerEncoderLayer(2, 1, 4, 0.0, nn.SiLU(), 0.1, batch_first=True),
        nn.Flatten(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_the_slope_is_right_whatever_layers_there_are(name: str) -> None:
    """The kernels of some layers have a second derivative, but a wrong third one; of one the second is wrong, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        training = "training" in name
        model = nn.Sequential(nn.Linear(5, 6), *LAYERS[name](), nn.Linear(6, 3)).double().train(training)
        data = torch.randn(30, 5, dtype=torch.float64), torch.randint(3, (30,))
        objective = Objective(model, loss, data, training=training)
        agents = objective.point + 0.1 * torch.randn(3, objective.num_parameters, dtype=torch.float64)
    centroid = Curvature(objective, PI[None] @ agents)
    before = centroid.losses(), centroid.products(agents[:1])
    check_slope(agents, centroid, 1)
    # What else is computed does not change by it.
    assert torch.equal(centroid.losses(), before[0]) and torch.equal(centroid.products(agents[:1]), before[1])


def test_only_hessians_have_such_forms() -> None:
    _, centroid = network(0.1)
    with pytest.raises(ValueError, match="got gauss_newton"):
        centroid.of_kind("gauss_newton").form_gradients(centroid.points[None], torch.ones(1))
