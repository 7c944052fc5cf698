"""Curvature of many agents at once, against matrices that are written out element by element."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from basinet.analysis.curvature.hessian import FisherOperator, GaussNewtonOperator, HessianOperator
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.samples import Chunk, Share
from basinet.sim.tasks import supervised
from tests.directions import directions

AGENTS = 3
HELD = [[0, 5, 2], [1, 3, 7, 9, 11, 4], [8]]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.view(-1, 4, 2))[0][:, -1])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "tanh": lambda: nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3)),
    "layer norm": lambda: nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3)),
    "group norm": lambda: nn.Sequential(nn.Linear(8, 4), nn.GroupNorm(2, 4), nn.SiLU(), nn.Linear(4, 3)),
    "batch norm": lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Softplus(), nn.Linear(4, 3)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(2, 3)
    ),
    "attention": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.TransformerEncoderLayer(4, 2, 5, batch_first=True), nn.Flatten(), nn.Linear(8, 3)
    ),
    "recurrent": Recurrent,
}


def plain(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


@dataclass
class Case:
    model: nn.Module
    data: tuple[Tensor, ...]
    points: Tensor
    buffers: dict[str, Tensor]

    def at(self, agent: int) -> nn.Module:
        nn.utils.vector_to_parameters(self.points[agent].clone(), self.model.parameters())
        for name, buffer in self.model.named_buffers():
            buffer.copy_(self.buffers[name][agent])
        return self.model

    def curvature(self, kind: str = "hessian", loss: Callable = plain, **settings: object) -> Curvature:
        objective = Objective(self.model, loss, self.data, **settings)
        return Curvature(objective, self.points, self.buffers, kind=kind)


def make(name: str, num_samples: int = 13) -> Case:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name]().double().eval()
        data = torch.randn(num_samples, 8, dtype=torch.float64), torch.randint(3, (num_samples,))
        start = nn.utils.parameters_to_vector(model.parameters()).detach()
        points = start + 0.3 * torch.randn(AGENTS, len(start), dtype=torch.float64)
        buffers = {}
        for key, b in model.named_buffers():
            stacked = b.expand(AGENTS, *b.shape).clone()
            buffers[key] = stacked + torch.rand_like(stacked) if b.is_floating_point() else stacked
    return Case(model, data, points, buffers)


def explicit(model: nn.Module, data: tuple[Tensor, ...], along: Tensor | None = None) -> np.ndarray:
    """The Hessian, or its products with some vectors, one a row."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        value = plain(model, data)
    parameters = list(model.parameters())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, create_graph=True)])
    slopes = gradient if along is None else along @ gradient
    rows = [torch.autograd.grad(g, parameters, retain_graph=True, materialize_grads=True) for g in slopes]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]).numpy()


def matrices(curvature: Curvature) -> np.ndarray:
    size = curvature.points.shape[1]
    columns = curvature.products(torch.eye(size, dtype=torch.float64)[:, None].expand(-1, curvature.num_points, -1))
    return columns.permute(1, 2, 0).numpy()


def jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """Derivatives of the outputs of one sample, [outputs, P]."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        outputs = model(x[None])[0]
    rows = [torch.autograd.grad(f, list(model.parameters()), retain_graph=True) for f in outputs]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def held(case: Case, agent: int) -> tuple[Tensor, ...]:
    return tuple(t[HELD[agent]] for t in case.data)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("own", [False, True])
def test_each_agent_has_its_own_hessian(name: str, own: bool) -> None:
    case = make(name)
    # A layer that has no batched form cannot be mapped over the samples of a loss that is only known as a mean.
    loss = supervised(case.data).objective if name == "recurrent" else plain
    curvature = case.curvature(loss=loss, holdings=HELD if own else None, chunk=4 if name == "tanh" else None)
    along = directions(case.points.shape[1])
    found = curvature.products(along[:, None].expand(-1, AGENTS, -1)).numpy()
    for agent in range(AGENTS):
        expected = explicit(case.at(agent), held(case, agent) if own else case.data, along)
        np.testing.assert_allclose(found[:, agent], expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["tanh", "batch norm", "convolution"])
@pytest.mark.parametrize("own", [False, True])
def test_losses_and_gradients_of_unequal_agents(name: str, own: bool) -> None:
    case = make(name)
    curvature = case.curvature(holdings=HELD if own else None, chunk=4)
    losses, gradients = curvature.losses(), curvature.gradients()
    for agent in range(AGENTS):
        model = case.at(agent)
        value = plain(model, held(case, agent) if own else case.data)
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])
        assert losses[agent].item() == pytest.approx(value.item(), rel=1e-13)
        np.testing.assert_allclose(gradients[agent], gradient, rtol=0, atol=1e-14)


def test_agents_weighted_by_their_samples_make_the_global_hessian() -> None:
    case = make("tanh")
    parts = [[0, 1], [2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12]]
    case.points = case.points[:1].expand(AGENTS, -1)
    own = matrices(case.curvature(holdings=parts))
    weights = np.array([len(part) for part in parts]) / 13
    expected = matrices(case.curvature())[0]
    np.testing.assert_allclose(np.einsum("k,kij->ij", weights, own), expected, rtol=0, atol=1e-14)
    assert np.abs(own.mean(0) - expected).max() > 1e-3  # equal weights are another matrix


@cache
def by_definition(name: str, own: bool) -> list[tuple[Tensor, Tensor]]:
    """The Gauss-Newton and the Fisher matrix of each agent."""
    case, found = make(name), []
    for agent in range(AGENTS):
        model = case.at(agent)
        x, y = held(case, agent) if own else case.data
        g = e = 0
        for xi, yi in zip(x, y, strict=True):
            f, p = jacobian(model, xi), model(xi[None])[0].softmax(-1).detach()
            g = g + f.T @ (torch.diag(p) - p[:, None] * p) @ f / len(x)
            s = p.clone()
            s[yi] -= 1
            e = e + torch.outer(f.T @ s, f.T @ s) / len(x)
        found.append((g, e))
    return found


@pytest.mark.parametrize("loss", ["plain", "task"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("name", ["tanh", "layer norm"])
def test_gauss_newton_and_fisher_by_their_definitions(name: str, own: bool, chunk: int | None, loss: str) -> None:
    case = make(name)
    function = plain if loss == "plain" else supervised(case.data).objective
    settings = {"holdings": HELD if own else None, "chunk": chunk, "loss": function}
    along = directions(case.points.shape[1])
    for place, kind in enumerate(("gauss_newton", "empirical_fisher")):
        found = case.curvature(kind, **settings).products(along[:, None].expand(-1, AGENTS, -1))
        for agent, both in enumerate(by_definition(name, own)):
            np.testing.assert_allclose(found[:, agent], along @ both[place], rtol=0, atol=1e-13)


def test_gauss_newton_of_the_squared_error() -> None:
    case = make("tanh")
    targets = torch.randn(13, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    task = supervised((case.data[0], targets))
    case.data = task.train
    found = matrices(case.curvature("gauss_newton", task.objective))
    for agent in range(AGENTS):
        model = case.at(agent)
        f = torch.stack([jacobian(model, x) for x in case.data[0]])
        np.testing.assert_allclose(found[agent], 2 / 39 * torch.einsum("nai,naj->ij", f, f), rtol=0, atol=1e-13)


def test_drawn_labels_have_the_gauss_newton_matrix_as_their_mean() -> None:
    case = make("tanh", num_samples=5)
    task = supervised((case.data[0], torch.tensor([0, 1, 2, 0, 1])))
    case.data = task.train
    expected = matrices(case.curvature("gauss_newton", task.objective))
    objective = Objective(case.model, task.objective, task.train)
    draws = np.stack(
        [
            matrices(Curvature(objective, case.points, case.buffers, kind="sampled_fisher", seed=seed))
            for seed in range(40)
        ]
    )
    error = draws.std(0, ddof=1) / 40**0.5
    # 3 · 51² correlated entries; t of 39 degrees exceeds 7 with probability 2e-8.
    assert (np.abs(draws.mean(0) - expected) <= 7 * error + 1e-12).all()
    traces = np.trace(draws, axis1=2, axis2=3)
    assert (np.abs(traces.mean(0) - np.trace(expected, axis1=1, axis2=2)) < 4 * traces.std(0, ddof=1) / 40**0.5).all()
    with pytest.raises(ValueError, match="classification"):
        matrices(case.curvature("sampled_fisher"))


def test_operators_of_one_point() -> None:
    case = make("tanh")
    model = case.at(1)
    for kind, operator in (
        ("hessian", HessianOperator),
        ("gauss_newton", GaussNewtonOperator),
        ("empirical_fisher", FisherOperator),
    ):
        expected = matrices(case.curvature(kind))[1]
        np.testing.assert_allclose(operator(model, plain, case.data) @ np.eye(len(expected)), expected, atol=1e-14)
    with pytest.raises(ValueError, match="at 1 point, got the hessian at 3"):
        HessianOperator.of(case.curvature())
    with pytest.raises(ValueError, match="needs the gauss_newton"):
        GaussNewtonOperator.of(case.curvature())


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kind", ["hessian", "gauss_newton", "empirical_fisher"])
@pytest.mark.parametrize("workers", [3, 20])
def test_shares_of_the_samples_add_up(own: bool, kind: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make("tanh")
    settings = {"holdings": HELD if own else None, "chunk": 2}
    whole = case.curvature(kind, **settings)
    vectors = torch.randn(2, *case.points.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(Share, "sum", lambda self, tensor: tensor)
    parts = [case.curvature(kind, share=Share(rank, workers), **settings) for rank in range(workers)]
    for method in ("losses", "gradients"):
        total = sum(getattr(part, method)() for part in parts)
        np.testing.assert_allclose(total, getattr(whole, method)(), rtol=1e-12, atol=1e-15)
    expected = whole.products(vectors)
    np.testing.assert_allclose(sum(part.products(vectors) for part in parts), expected, rtol=0, atol=1e-14)


def test_training_mode_takes_all_samples_as_one_batch() -> None:
    case = make("batch norm")
    case.model.train()
    with pytest.raises(ValueError, match="statistics of the batch"):
        case.curvature()
    with pytest.raises(ValueError, match="leave out chunk"):
        case.curvature(training=True, chunk=3)
    before = {name: b.clone() for name, b in case.buffers.items()}
    found = matrices(case.curvature(training=True))
    assert all(torch.equal(b, case.buffers[name]) for name, b in before.items())
    for agent in range(AGENTS):
        expected = explicit(case.at(agent).train(), case.data)
        np.testing.assert_allclose(found[agent], expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_products_are_counted_for_each_agent() -> None:
    curvature = make("tanh").curvature()
    curvature.products(torch.ones_like(curvature.points))
    curvature.products(torch.ones(5, *curvature.points.shape))
    assert curvature.num_products == 6


def test_vectors_keep_their_type() -> None:
    case = make("tanh")
    case.model.float()
    case.data = (case.data[0].float(), case.data[1])
    case.points = case.points.float()
    vectors = torch.ones(*case.points.shape, dtype=torch.float64)
    assert case.curvature().products(vectors).dtype == torch.float64


def test_memory_of_a_sample_is_what_the_graph_keeps() -> None:
    objective = Objective(make("tanh").model, plain, make("tanh").data)
    # At least input, hidden and output activations of 8, 4 and 3 numbers; at most a few dozen numbers.
    assert 8 * 15 <= objective.bytes_per_sample() <= 8 * 200


def test_what_does_not_fit_is_refused() -> None:
    case = make("tanh")
    with pytest.raises(ValueError, match=r"shape \[N, 51\], got \[3, 5\]"):
        Curvature(Objective(case.model, plain, case.data), case.points[:, :5])
    with pytest.raises(ValueError, match="3 points and 2 holdings"):
        case.curvature(holdings=[[0], [1]])
    with pytest.raises(ValueError, match="point 1 has none"):
        case.curvature(holdings=[[0], [], [1]])


def test_a_chunk_knows_its_size() -> None:
    assert Chunk((torch.zeros(4, 2),)).size == 4
    assert Chunk((torch.zeros(3, 5, 2),), weights=torch.ones(3, 5)).size == 5


def test_regularised_losses_count_their_penalty() -> None:
    def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return mse_loss(model(batch[0]), batch[1]) + sum(p.square().sum() for p in model.parameters())

    case = make("tanh")
    case.data = (case.data[0], torch.zeros(13, 3, dtype=torch.float64))
    plus = matrices(case.curvature(loss=loss))
    without = matrices(case.curvature(loss=lambda model, batch: mse_loss(model(batch[0]), batch[1])))
    np.testing.assert_allclose(plus - without, np.broadcast_to(2 * np.eye(51), plus.shape), rtol=0, atol=1e-13)
    own = matrices(case.curvature(loss=loss, holdings=HELD))
    assert np.isfinite(own).all()
