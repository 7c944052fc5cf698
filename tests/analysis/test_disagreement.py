"""What disagreement costs, against matrices and on quadratics, where it is exact."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from basinet.analysis.curvature import Curvature
from basinet.analysis.disagreement import disagreement
from basinet.analysis.objective import Objective

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
