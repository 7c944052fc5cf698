"""Curvature of losses of nests, of tokens and of whole batches, against plain loops over the samples."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian, vhp
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from basinet.analysis.curvature.hessian import FisherOperator, GaussNewtonOperator, HessianOperator
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.plain import fisher_operator, gauss_newton_operator, hessian_operator
from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.sim.data.nests import leaves
from basinet.sim.data.rows import take
from basinet.sim.experiment.config import Config
from basinet.sim.models.modules import FunctionOf
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import Task
from tests.directions import directions
from tests.structures import STRUCTURES, mean_loss

N, T, WORDS, WIDTH, TAGS = 7, 3, 4, 2, 3
HELD = [[0, 1, 5], [2, 3, 4, 6]]


class Transformer(nn.Module):
    """One matrix embeds the tokens and reads them out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.block = nn.TransformerEncoderLayer(WIDTH, 1, 2, dropout=0.0, batch_first=True, activation="gelu")
        self.head = nn.Linear(WIDTH, WORDS)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
        hidden = self.block(self.embedding(tokens), src_key_padding_mask=mask)
        return {"hidden": hidden, "logits": self.head(hidden), "length": tokens.shape[1]}


class Tagger(nn.Module):
    def __init__(self, layer: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(WORDS, WIDTH), layer(WIDTH, 2, batch_first=True)
        self.head = nn.Linear(2, TAGS)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Any]:
        found, state = self.layer(self.embedding(tokens))
        return self.head(found), state


@dataclass
class Tokens:
    tokens: Tensor
    targets: Tensor
    weights: Tensor


@dataclass
class Read:
    values: Tensor
    spread: Tensor


class Regressor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.heads = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, tokens: Tensor) -> Read:
        found = self.heads(self.embedding(tokens).tanh())
        return Read(found[..., 0], found[..., 1])


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square().mean()


class Weighted(Task):
    """The likelihood of a Gaussian whose mean and spread are two outputs, with a weight for each token."""

    def loss(self, outputs: Read, batch: Tokens) -> Tensor:
        return outputs.spread + (outputs.values - batch.targets).square() * (-2 * outputs.spread).exp() / 2

    def weights(self, batch: Tokens) -> Tensor:
        return batch.weights


def transformer(data: dict[str, Tensor]) -> tuple[nn.Module, Task]:
    batch = {"tokens": data["tokens"], "mask": data["mask"], "labels": data["next"]}
    return Transformer(), Task(train=batch, num_outputs=WORDS)


def tagger(layer: type[nn.RNNBase]) -> Callable[..., tuple[nn.Module, Task]]:
    return lambda data: (Tagger(layer), Task(train=(data["tokens"], data["tags"]), num_outputs=TAGS))


def regressor(data: dict[str, Tensor]) -> tuple[nn.Module, Task]:
    batch = Tokens(data["tokens"], data["values"], data["weights"])
    return Regressor(), Weighted(train=batch, num_outputs=1, classification=False)


CASES = {"transformer": transformer, "lstm": tagger(nn.LSTM), "gru": tagger(nn.GRU), "weighted": regressor}


class Case:
    """A model and a task, with the mean loss by a loop over the samples as a function of the flat parameters."""

    def __init__(self, name: str) -> None:
        g = torch.Generator().manual_seed(3)
        tokens, tags = (torch.randint(count, (N, T), generator=g) for count in (WORDS, TAGS))
        mask = torch.rand(N, T, generator=g) < 0.3
        mask[:, 0] = False
        tags[torch.rand(N, T, generator=g) < 0.4] = -100
        tags[2] = -100  # a sample without any
        weights = torch.rand(N, T, generator=g, dtype=torch.float64)
        weights[:, 1] = 0
        data = {
            "tokens": tokens,
            "mask": mask,
            "next": tokens.roll(-1, 1).masked_fill(mask, -100),
            "tags": tags,
            "values": torch.randn(N, T, generator=g, dtype=torch.float64),
            "weights": weights,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model, self.task = CASES[name](data)
        self.model.double().eval()
        self.names = [name for name, _ in self.model.named_parameters()]
        self.point = nn.utils.parameters_to_vector(self.model.parameters()).detach()

    def call(self, flat: Tensor, batch: Any) -> Any:
        shapes = [p.shape for p in self.model.parameters()]
        parts = flat.split([shape.numel() for shape in shapes])
        state = {name: part.view(shape) for name, part, shape in zip(self.names, parts, shapes, strict=True)}
        inputs = (
            tuple(batch.values())[:-1] if isinstance(batch, dict) else batch[:1] if isinstance(batch, tuple) else ()
        )
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return functional_call(self.model, state, inputs or (batch.tokens,))

    def parts(self, outputs: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """The losses of one sample's elements, and their weights."""
        if isinstance(batch, Tokens):
            return self.task.loss(outputs, batch).flatten(), batch.weights.flatten()
        logits, labels = outputs["logits"] if isinstance(outputs, dict) else outputs[0], leaves(batch)[-1].flatten()
        return cross_entropy(logits[0], labels, reduction="none"), (labels != -100).double()

    def mean(self, flat: Tensor, rows: list[int]) -> Tensor:
        total = counted = torch.zeros((), dtype=torch.float64)
        for row in rows:
            batch = take(self.task.train, slice(row, row + 1))
            losses, weights = self.parts(self.call(flat, batch), batch)
            total, counted = total + losses @ weights, counted + weights.sum()
        return total / counted

    def hessian(self, rows: list[int]) -> np.ndarray:
        return hessian(lambda flat: self.mean(flat, rows), self.point).numpy()

    def share(self, row: int) -> Tensor:
        counts = [self.parts(self.call(self.point, b), b)[1].sum() for b in map(self.sample, range(N))]
        return counts[row] / sum(counts)

    def sample(self, row: int) -> Any:
        return take(self.task.train, slice(row, row + 1))


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def along(matrix: Any) -> np.ndarray:
    """Products of a matrix or an operator, [P, 3]."""
    return matrix @ directions(matrix.shape[0]).T.numpy()


def products(function: Callable[[Tensor], Tensor], point: Tensor) -> np.ndarray:
    """Products of the Hessian of a function, by torch's own, [P, 3]."""
    return torch.stack([vhp(function, point, v)[1] for v in directions(len(point))], 1).numpy()


def test_the_hessian_is_that_of_a_loop_over_samples(case: Case) -> None:
    every = [*range(N)]
    expected = products(lambda flat: case.mean(flat, every), case.point)
    leaf = case.point.clone().requires_grad_()
    (slope,) = torch.autograd.grad(case.mean(leaf, every), leaf)
    for chunk in (None, 3):
        operator = HessianOperator(case.model, case.task.objective, case.task.train, chunk=chunk)
        np.testing.assert_allclose(along(operator), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(operator.gradient(), slope.numpy(), rtol=0, atol=1e-13)
        assert operator.loss() == pytest.approx(float(case.mean(case.point, every)), rel=1e-13)


def test_each_agent_has_the_hessian_of_its_own(case: Case) -> None:
    objective = Objective(case.model, case.task.objective, case.task.train, holdings=HELD, chunk=3)
    points = torch.stack([case.point, 0.9 * case.point])
    found = Curvature(objective, points).products(directions(len(case.point))[:, None].expand(-1, 2, -1))
    for rows, point, mine in zip(HELD, points, found.permute(1, 2, 0).numpy(), strict=True):
        expected = products(partial(case.mean, rows=rows), point)
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-12)


def of_sample(case: Case, row: int) -> tuple[Tensor, Tensor]:
    """The Gauss-Newton matrix and the gradient of one sample's loss."""
    batch = case.sample(row)

    def read(flat: Tensor) -> list[Tensor]:  # what has an entry for each token, unlike the state of a recurrent layer
        return [t for t in leaves(case.call(flat, batch)) if t.shape[:2] == (1, T)]

    def loss(z: Tensor) -> Tensor:
        parts = [part.view_as(t) for part, t in zip(z.split([t.numel() for t in shapes]), shapes, strict=True)]
        losses, weights = case.parts(Read(*parts) if isinstance(batch, Tokens) else {"logits": parts[-1]}, batch)
        return losses @ weights / weights.sum()

    shapes = read(case.point)
    first = jacobian(lambda flat: torch.cat([t.flatten() for t in read(flat)]), case.point)
    z = torch.cat([t.flatten() for t in shapes])
    return first.T @ hessian(loss, z) @ first, first.T @ jacobian(loss, z)


def test_gauss_newton_and_fisher_are_those_of_a_loop_over_samples(case: Case) -> None:
    gauss_newton, fisher = (np.zeros((len(case.point),) * 2) for _ in range(2))
    for row in range(N):
        if share := case.share(row):
            matrix, slope = of_sample(case, row)
            gauss_newton += (share * matrix).numpy()
            fisher += (share * torch.outer(slope, slope)).numpy()
    for chunk in (None, 3):
        settings = (case.model, case.task.objective, case.task.train)
        found = along(GaussNewtonOperator(*settings, chunk=chunk))
        np.testing.assert_allclose(found, along(gauss_newton), rtol=0, atol=1e-12)
        found = along(FisherOperator(*settings, chunk=chunk))
        np.testing.assert_allclose(found, along(fisher), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_hessian_of_every_structure(name: str) -> None:
    task, make = STRUCTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().double().eval()
    whole = FunctionOf(model, partial(mean_loss, name))
    names, shapes = zip(*((key, p.shape) for key, p in whole.named_parameters()), strict=True)

    def mean(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        state = {key: part.view(shape) for key, part, shape in zip(names, parts, shapes, strict=True)}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return functional_call(whole, state, (task.train,))

    found = along(HessianOperator(model, task.objective, task.train))
    point = nn.utils.parameters_to_vector(model.parameters()).detach()
    np.testing.assert_allclose(found, products(mean, point), rtol=0, atol=1e-12)


def test_the_plain_door_takes_any_nest() -> None:
    case = Case("lstm")
    tokens, tags = (t.clone() for t in case.task.train)
    tags[tags < 0] = 0
    seen = ({"tokens": tokens, "labels": tags}, (tokens, tags), [(tokens[:4], tags[:4]), (tokens[4:], tags[4:])])
    found = [
        along(operator(case.model, lambda outputs, y: cross_entropy(outputs[0].mT, y), data))
        for data in seen
        for operator in (hessian_operator, gauss_newton_operator, fisher_operator)
    ]
    task = Task(train=seen[1], num_outputs=TAGS)
    for place, kind in enumerate((HessianOperator, GaussNewtonOperator, FisherOperator)):
        expected = along(kind(case.model, task.objective, task.train))
        for matrix in found[place::3]:
            np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-13)


def test_outputs_that_are_single_numbers() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)).double()
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 2, generator=g, dtype=torch.float64), torch.randn(5, generator=g, dtype=torch.float64)
    rows, slopes = np.c_[x.numpy(), np.ones(5)], 2 * (model(x) - y).detach().numpy()
    settings = (model, lambda model, batch: (model(batch[0]) - batch[1]).square().mean(), (x, y))
    expected = along(2 * rows.T @ rows / 5)
    np.testing.assert_allclose(along(GaussNewtonOperator(*settings)), expected, rtol=0, atol=1e-14)
    expected = along((slopes[:, None] * rows).T @ (slopes[:, None] * rows) / 5)
    for chunk in (None, 2):
        np.testing.assert_allclose(along(FisherOperator(*settings, chunk=chunk)), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", [GaussNewtonOperator, FisherOperator])
def test_a_loss_that_is_an_output_has_no_matrix_of_the_outputs(kind: type[GaussNewtonOperator]) -> None:
    model = nn.Linear(2, 1).double()
    x = torch.ones(3, 2, dtype=torch.float64)
    operator = kind(model, lambda model, batch: model(batch[0]).square().mean(), (x,))
    assert np.isfinite(operator @ np.ones(3)).all()
    whole = nn.Sequential(model, Mean())
    with pytest.raises(ValueError, match="an output that is a single number"):
        kind(whole, lambda model, batch: model(batch[0]), (x,)) @ np.ones(3)


@pytest.mark.parametrize("name", ["lstm", "weighted"])
def test_a_run_measures_tokens_by_what_counts(name: str) -> None:
    """Also where the check before it meets samples that count differently, or not at all."""
    case = Case(name)
    setup = build_setup(
        Config.parse({
            "task": case.task, "model": case.model, "topology": {"name": "ring", "agents": 2}, "strategy": "diffusion",
            "steps": 1, "batch_size": 3, "replicas": 1, "runtime": {"dtype": "float64", "device": "cpu"},
            "analysis": ["hessian_trace", "fisher_trace", "gradient_noise_trace", "m_sharpness"],
            "analysis_views": ["all", "own"],
        })
    )  # fmt: skip
    check_analysis(setup)
    state = {"step": 1, "rows": {"parameters": case.point.expand(2, -1).clone(), "buffers": {}}}
    every, *own = measure_replica(setup, state, 0)
    slopes = torch.stack([of_sample(case, row)[1] for row in range(N) if case.share(row)])
    shares = torch.stack([case.share(row) for row in range(N) if case.share(row)])
    second, mean = shares @ slopes.square().sum(1), shares @ slopes
    assert every["gradient_noise_trace"] == pytest.approx(float(second - mean @ mean), rel=1e-10)
    assert every["fisher_trace"] == pytest.approx(float(second), abs=4 * every["fisher_trace_error"] + 1e-10)
    assert every["m_sharpness"] > 0
    for row, found in zip(([*range(N)], *setup.holdings[0]), (every, *own), strict=True):
        label = "hessian_trace" if found is every else "hessian_trace_own_at_centroid"
        matrix = case.hessian(list(row))
        error = 6 * found[f"{label}_error"] + 1e-9 * np.abs(matrix).max()
        assert found[label] == pytest.approx(np.trace(matrix), abs=error)
