"""Sharpness against closed forms on quadratics, definitions on networks, and invariance under rescaling."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from basinet.algorithms import draws
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.scales import Scale, filter_normalized, scales, split
from basinet.analysis.curvature.spectral import spectra
from basinet.analysis.measures.m_sharpness import m_sharpness
from basinet.analysis.measures.relative_flatness import relative_flatness
from basinet.analysis.measures.sharpness import (
    average_sharpness,
    pac_bayes_sigma,
    worst_sharpness,
)


def keys(count: int) -> Tensor:
    return draws.fold(torch.tensor(draws.key(0, "test")), torch.arange(count))


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(4, dtype=torch.float64))


A = torch.diag(torch.tensor([8.0, 4.0, 1.0, 0.5], dtype=torch.float64))


def quadratic() -> Curvature:
    """Two points of ½ θᵀ A θ: the minimum, and one beside it."""
    objective = Objective(Point(), lambda model, _: model.theta @ A @ model.theta / 2, (torch.zeros(1),))
    return Curvature(objective, torch.tensor([[0.0] * 4, [1.0, -2.0, 0.5, 0.0]], dtype=torch.float64))


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


@cache
def descended(steps: int) -> tuple[Objective, Tensor]:
    """Two points of a ReLU network near minima."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
        data = torch.randn(40, 6, dtype=torch.float64), torch.randint(3, (40,))
        objective = Objective(model, loss, data)
        points = objective.point + 0.2 * torch.randn(2, objective.num_parameters, dtype=torch.float64)
    for _ in range(steps):
        points -= 0.3 * Curvature(objective, points).gradients()
    return objective, points


def network(alpha: float = 1.0, steps: int = 200) -> Curvature:
    """Those points; alpha scales the first layer up and the second down."""
    objective, points = descended(steps)
    points = points.clone()
    layers = split(points, objective.shapes)
    layers["0.weight"].mul_(alpha)
    layers["0.bias"].mul_(alpha)
    layers["2.weight"].div_(alpha)
    return Curvature(objective, points)


def test_average_sharpness_of_a_quadratic() -> None:
    for rho in (0.01, 0.3):
        for row, found in enumerate(average_sharpness(quadratic(), keys(2), rho=rho, num_pairs=60)):
            assert abs(found.value - rho**2 * 13.5 / 2) < 4 * found.error
            # Pairs leave the gradient out: the spread is that of gᵀ A g / 2 alone, also beside the minimum.
            expected = rho**2 * np.sqrt(2 * float((A**2).sum())) / 2 / np.sqrt(60)
            assert found.error == pytest.approx(expected, rel=0.45), row
    weighted = average_sharpness(quadratic(), keys(2), rho=0.1, scale="adaptive", num_pairs=60)
    assert weighted[0].value == 0  # at the origin all scales are zero
    exact = 0.1**2 / 2 * (8 * 1 + 4 * 4 + 1 * 0.25)
    assert abs(weighted[1].value - exact) < 4 * weighted[1].error


def bowl(name: str) -> tuple[Curvature, float, Scale, float]:
    """A minimum, the radius and the scale of the perturbations there, and their average rise."""
    if name == "network":
        curvature = network().part(slice(0, 1))
        many = Curvature(curvature.objective, curvature.points.expand(300, -1))
        found = average_sharpness(many, draws.fold(keys(300), 1), rho=0.05, scale="adaptive", num_pairs=60)
        return curvature, 0.05, "adaptive", float(np.mean([e.value for e in found]))
    h = {"sharp": [8.0, 0.1, 0.1, 0.1], "round": [1.0] * 4, "quartic": [1.0] * 4}[name]
    weights, power = torch.tensor(h, dtype=torch.float64), 4 if name == "quartic" else 2
    objective = Objective(Point(), lambda model, _: weights @ model.theta**power / 2, (torch.zeros(1),))
    rise = 0.1**power * sum(h) * (3 if name == "quartic" else 1) / 2
    return Curvature(objective, torch.zeros(1, 4, dtype=torch.float64)), 0.1, "none", rise


@pytest.mark.parametrize("name", ["sharp", "round", "quartic", "network"])
def test_the_average_is_within_its_stated_error(name: str) -> None:
    """Rises with one direction that counts are χ² of one degree of freedom, and their spread tells of itself late."""
    curvature, rho, scale, exact = bowl(name)
    many = Curvature(curvature.objective, curvature.points.expand(400, -1))
    found = average_sharpness(many, keys(400), rho=rho, scale=scale)
    distances = np.array([abs(e.value - exact) / e.error for e in found])
    # A share of 400 has a standard error of 0.024 at 0.65, of 0.015 at 0.9.
    assert 0.55 < (distances < 1).mean() < 0.78
    assert (distances < 2).mean() > (0.84 if name == "quartic" else 0.88)
    pairs = np.array([(e.num_products - 1) / 2 for e in found])
    assert set(pairs) <= {20, 40, 60}
    precise = np.array([e.error <= 0.1 * e.value for e in found])
    assert (precise | (pairs == 60)).all()


def test_a_point_is_measured_alike_alone_and_among_others() -> None:
    curvature = network()
    together = average_sharpness(curvature, keys(2), rho=0.05, scale="adaptive")
    for row in range(2):
        part = curvature.part(slice(row, row + 1))
        (alone,) = average_sharpness(part, keys(2)[row : row + 1], rho=0.05, scale="adaptive")
        assert alone.num_products == together[row].num_products
        assert alone.value == pytest.approx(together[row].value, rel=1e-9)


def test_worst_sharpness_of_a_quadratic() -> None:
    found = worst_sharpness(quadratic(), keys(2), rho=0.1, steps=30)
    assert found[0].item() == pytest.approx(0.1**2 * 8 / 2, rel=1e-8)
    gradient = (A @ quadratic().points[1]).norm().item()
    one = worst_sharpness(quadratic(), keys(2), rho=0.1, steps=1)
    assert 0.1 * gradient < one[1] <= found[1] <= 0.1 * gradient + 0.1**2 * 8 / 2
    # The maximum on the sphere, from the secular equation by a fine search over the multiplier.
    theta = quadratic().points[1].numpy()
    multipliers = np.linspace(8 + 1e-6, 400, 200_000)
    e = (np.diag(A)[None] * theta)[:, :] / (multipliers[:, None] - np.diag(A)[None])
    best = e[np.abs((e**2).sum(1) - 0.01).argmin()]
    exact = best @ (A.numpy() @ theta) + best @ A.numpy() @ best / 2
    assert found[1].item() == pytest.approx(exact, rel=1e-4)


def test_the_first_step_is_that_of_sam() -> None:
    curvature = network(steps=20)
    g = curvature.gradients()
    there = curvature.points + 0.05 * g / g.norm(dim=1, keepdim=True)
    sam = curvature.at(there).losses() - curvature.losses()
    found = worst_sharpness(curvature, keys(2), rho=0.05, steps=1)
    assert (found >= sam - 1e-12).all()
    t = curvature.points.abs()
    there = curvature.points + 0.5 * t**2 * g / (t * g).norm(dim=1, keepdim=True)
    asam = curvature.at(there).losses() - curvature.losses()
    assert (worst_sharpness(curvature, keys(2), rho=0.5, scale="adaptive", steps=1) >= asam - 1e-12).all()


def test_m_sharpness_is_the_mean_over_batches() -> None:
    curvature = network(steps=30)
    objective = curvature.objective
    batches = [list(range(start, start + 8)) for start in range(0, 40, 8)]
    by_batch = Objective(objective.model, loss, objective.samples.data, holdings=batches)
    found = m_sharpness(by_batch, curvature.points, keys(2), rho=0.05)
    for row in range(2):
        rises = []
        for number, batch in enumerate(batches):
            part = Objective(objective.model, loss, tuple(t[batch] for t in objective.samples.data))
            key = draws.fold(keys(2)[row : row + 1], number)
            rises.append(worst_sharpness(Curvature(part, curvature.points[row : row + 1]), key, rho=0.05, steps=1))
        assert found[row].item() == pytest.approx(float(torch.cat(rises).mean()), rel=1e-9)
    assert (found > worst_sharpness(curvature, keys(2), rho=0.05, steps=1)).all()


def test_pac_bayes_sigma_of_a_quadratic() -> None:
    found = pac_bayes_sigma(quadratic(), keys(2), target=0.1, num_pairs=30)
    # E rise = σ² Tr A / 2; its relative error over 30 directions is √(2 ‖A‖²) / Tr A / √30, half of it in σ.
    exact = np.sqrt(2 * 0.1 / 13.5)
    tolerance = 4 * np.sqrt(2 * float((A**2).sum())) / 13.5 / np.sqrt(30) / 2 + 2e-3
    assert found.tolist() == pytest.approx([exact, exact], rel=tolerance)


def test_relative_flatness_by_its_definition() -> None:
    curvature = network()
    found = relative_flatness(curvature, keys(2), num_probes=200)
    size = curvature.points.shape[1]
    h = curvature.products(torch.eye(size, dtype=torch.float64)[:, None].expand(-1, 2, -1))
    for row in range(2):
        matrix, exact, start = h[:, row], 0.0, 0
        for shape in curvature.objective.shapes.values():
            if len(shape) == 2:
                block = matrix[start : start + shape.numel(), start : start + shape.numel()].view(*shape, *shape)
                w = curvature.points[row, start : start + shape.numel()].view(shape)
                exact += float(torch.einsum("ai,bi,ajbj->", w, w, block))
            start += shape.numel()
        assert abs(found[row].value - exact) < 4 * found[row].error


MEASURES: dict[str, Callable[[Curvature], list[float]]] = {
    "adaptive average": lambda c: [
        e.value for e in average_sharpness(c, keys(2), rho=0.05, scale="adaptive", num_pairs=4)
    ],
    "ASAM": lambda c: worst_sharpness(c, keys(2), rho=0.5, scale="adaptive").tolist(),
    "PAC-Bayes, adaptive": lambda c: pac_bayes_sigma(c, keys(2), scale="adaptive").tolist(),
    "filter average": lambda c: [e.value for e in average_sharpness(c, keys(2), rho=0.05, scale="filter", num_pairs=4)],
    "relative flatness": lambda c: [e.value for e in relative_flatness(c, keys(2), num_probes=4)],
}


@pytest.mark.parametrize("name", MEASURES)
def test_rescaling_a_relu_network_changes_nothing(name: str) -> None:
    here, there = (MEASURES[name](network(alpha)) for alpha in (1.0, 8.0))
    assert there == pytest.approx(here, rel=1e-6)


def test_rescaling_changes_the_measures_without_scales() -> None:
    here, there = (worst_sharpness(network(alpha), keys(2), rho=0.05) for alpha in (1.0, 8.0))
    assert (there > 3 * here).all()


def test_scaled_traces_from_the_diagonal_do_not_change_either() -> None:
    values = []
    for alpha in (1.0, 8.0):
        curvature = network(alpha)
        shapes, size = curvature.objective.shapes, curvature.points.shape[1]
        squares = [scales(curvature.points, shapes, kind).square() for kind in ("adaptive", "filter")]
        readings = lambda d: torch.stack([(d * s).sum(1) for s in squares], 1)  # noqa: E731, B023
        _, found = spectra(curvature.products, keys(2), size, steps=size, max_steps=size, readings=readings)
        values.append([s.readings for s in found])
        h = curvature.products(torch.eye(size, dtype=torch.float64)[:, None].expand(-1, 2, -1))
        diagonal = torch.diagonal(h, dim1=0, dim2=2)
        np.testing.assert_allclose(values[-1], readings(diagonal), rtol=1e-9)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-8)


def test_filters_keep_their_norms() -> None:
    shapes = {"0.weight": torch.Size([3, 2, 2, 2]), "0.bias": torch.Size([3])}
    points = torch.randn(2, 27, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    directions = torch.randn(2, 27, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = filter_normalized(directions, points, shapes)
    for row in range(2):
        w, d = points[row, :24].view(3, 8), found[row, :24].view(3, 8)
        np.testing.assert_allclose(d.norm(dim=1), w.norm(dim=1), rtol=1e-14)
        cosine = nn.functional.cosine_similarity(d, directions[row, :24].view(3, 8))
        np.testing.assert_allclose(cosine, 1, rtol=1e-14)
    assert (found[:, 24:] == 0).all()
    lengths = scales(points, shapes, "filter")
    np.testing.assert_allclose(lengths[0, :8], points[0, :8].norm() / 8**0.5)
    np.testing.assert_allclose(lengths[:, 24:], points[:, 24:].abs())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        average_sharpness(quadratic(), keys(2), rho=0.1, num_pairs=1)
    with pytest.raises(ValueError, match="at least 1"):
        worst_sharpness(quadratic(), keys(2), rho=0.1, steps=0)
    with pytest.raises(ValueError, match="has none"):
        relative_flatness(quadratic(), keys(2))
    with pytest.raises(ValueError, match="at least 2"):
        relative_flatness(network(), keys(2), num_probes=1)
