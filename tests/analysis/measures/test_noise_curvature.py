"""Gradient noise against covariances that are written out sample by sample."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from basinet.algorithms import draws
from basinet.analysis.curvature.krylov import krylov
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.samples import Share
from basinet.analysis.measures.noise import gradient_noise

HELD = [[0, 3, 7], [1, 2, 4, 5, 8, 9, 10, 11], [6]]


def keys(seed: int = 0) -> Tensor:
    return draws.fold(torch.tensor(draws.key(seed, "test")), torch.arange(3))


def plain(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def make(own: bool = False, share: Share | None = None) -> tuple[Curvature, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 3)).double()
        data = torch.randn(12, 6, dtype=torch.float64), torch.randint(3, (12,))
        objective = Objective(model, plain, data, holdings=HELD if own else None, share=share)
        points = objective.point + 0.3 * torch.randn(3, objective.num_parameters, dtype=torch.float64)
    return Curvature(objective, points), model


def exact(own: bool) -> list[tuple[float, float, float]]:
    """Tr Σ, Tr HΣ and Tr H at each point, from matrices."""
    curvature, model = make(own)
    size = curvature.points.shape[1]
    hessians = curvature.products(torch.eye(size, dtype=torch.float64)[:, None].expand(-1, 3, -1)).transpose(0, 1)
    found = []
    for k in range(3):
        nn.utils.vector_to_parameters(curvature.points[k].clone(), model.parameters())
        x, y = curvature.objective.samples.data
        rows = []
        for i in HELD[k] if own else range(12):
            value = plain(model, (x[i : i + 1], y[i : i + 1]))
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))]))
        sigma = torch.cov(torch.stack(rows).T, correction=0)
        sigma = sigma.view(size, size)
        found.append((float(sigma.trace()), float((hessians[k] @ sigma).trace()), float(hessians[k].trace())))
    return found


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("memory", [1500, 2**27])  # blocks of some samples, or of all
def test_trace_and_curvature_of_the_noise(own: bool, memory: int) -> None:
    curvature, _ = make(own)
    size = curvature.points.shape[1]
    whole = krylov(curvature.products, keys(), size, min_steps=size)
    part = krylov(curvature.products, keys(), size, min_steps=6, max_steps=6)
    for known, probed, (trace, bent, total) in zip(
        gradient_noise(curvature, whole, keys(), memory=memory),
        gradient_noise(curvature, part, keys(), num_probes=40, memory=memory),
        exact(own),
        strict=True,
    ):
        assert known.trace == pytest.approx(trace, rel=1e-10, abs=1e-15)
        assert known.curvature.value == pytest.approx(bent, rel=1e-9, abs=1e-14)
        assert known.curvature.error <= 1e-9 * abs(bent) + 1e-15
        assert abs(probed.curvature.value - bent) <= 4.5 * probed.curvature.error + 1e-14
        if trace:
            assert known.alignment(total, size) == pytest.approx(size * bent / trace / total, rel=1e-9)
        else:
            assert np.isnan(known.alignment(total, size))  # a single sample has no noise


def test_the_first_term_makes_the_probes_better() -> None:
    curvature, _ = make()
    size = curvature.points.shape[1]
    errors = [
        gradient_noise(curvature, krylov(curvature.products, keys(), size, min_steps=m, max_steps=m), keys())[0]
        for m in (1, 15)
    ]
    assert errors[1].curvature.error < errors[0].curvature.error / 3


def test_workers_draw_the_same_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = make()
    space = krylov(whole.products, keys(), whole.points.shape[1], min_steps=5, max_steps=5)
    means, sums = whole.gradients(), []
    monkeypatch.setattr(Curvature, "gradients", lambda self: means)
    monkeypatch.setattr(Share, "sum", lambda self, tensor: sums.append(tensor) or tensor)
    for curvature in (whole, *(make(share=Share(rank, 3))[0] for rank in range(3))):
        gradient_noise(curvature, space, keys())
    expected, *parts = sums[::2]  # each is followed by the sum of the products
    np.testing.assert_allclose(sum(parts), expected, rtol=0, atol=1e-13)


def test_products_and_mistakes() -> None:
    curvature, _ = make()
    space = krylov(curvature.products, keys(), curvature.points.shape[1], min_steps=5, max_steps=5)
    before = curvature.num_products
    gradient_noise(curvature, space, keys(), num_probes=7)
    assert curvature.num_products == before + 7
    with pytest.raises(ValueError, match="at least 2"):
        gradient_noise(curvature, space, keys(), num_probes=1)


class Unmapped(nn.Module):
    """The identity, which cannot be mapped over samples, since it looks at a value."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else 1 * x


def test_layers_that_cannot_be_mapped_over_samples_are_evaluated_one_by_one() -> None:
    curvature, model = make()
    found = []
    for layers in (model, nn.Sequential(*model, Unmapped())):
        objective = Objective(layers, plain, curvature.objective.samples.data)
        here = Curvature(objective, curvature.points)
        space = krylov(here.products, keys(), here.points.shape[1], min_steps=4, max_steps=4)
        found.append([value for n in gradient_noise(here, space, keys()) for value in (n.trace, n.curvature.value)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10)
