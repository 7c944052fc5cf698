"""Weighted and other means as losses of a plain model: one definition however the data are batched, or a sentence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss, nll_loss

from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.plain import fisher_operator, gauss_newton_operator, hessian_operator
from tests.directions import directions

N, CLASSES = 10, 3
OPERATORS = (hessian_operator, gauss_newton_operator, fisher_operator)
WEIGHTS = torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)
NO_FIRST = torch.tensor([0.0, 5.0, 0.2], dtype=torch.float64)


class Case:
    """A model of samples or of tokens, and data whose first labels, among others, are ignored."""

    def __init__(self, *, log: bool, tokens: bool, ignored: int | None) -> None:
        g = torch.Generator().manual_seed(4)
        shape = (N, 2) if tokens else (N,)
        x = torch.randn(*shape, 2, generator=g, dtype=torch.float64)
        y = torch.randint(CLASSES, shape, generator=g)
        if ignored is not None:
            y[:2] = y[5] = ignored
            y.view(-1)[-1] = ignored
        self.data = (x, y)
        layers = [nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, CLASSES), *([nn.LogSoftmax(-1)] if log else [])]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(*layers).double()
        self.model = nn.Sequential(self.body, Classes()) if tokens else self.body
        self.point = nn.utils.parameters_to_vector(self.model.parameters()).detach()

    def call(self, flat: Tensor, x: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in self.model.parameters()])
        named = zip(self.model.named_parameters(), parts, strict=True)
        return functional_call(self.model, {name: part.view_as(p) for (name, p), part in named}, (x,))


class Classes(nn.Module):
    """Puts the classes where torch's losses have them."""

    def forward(self, scores: Tensor) -> Tensor:
        return scores.movedim(-1, 1)


def dense(operator: Any) -> np.ndarray:
    return operator @ np.eye(operator.shape[0])


def ways(data: tuple[Tensor, Tensor]) -> list[tuple[Any, int | None]]:
    """The same data in one batch, one by one, and in batches of several sizes, one of them of ignored labels only."""
    batches = [tuple(t[start:end] for t in data) for start, end in ((0, 2), (2, 5), (5, 9), (9, 10))]
    return [(data, None), (data, 1), (batches, None)]


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize(
    ("loss", "ignored"),
    {
        "ignored": (nn.CrossEntropyLoss(), -100),
        "ignored, a function": (cross_entropy, -100),
        "ignored, logarithms": (nn.NLLLoss(), -100),
        "ignored, a function of logarithms": (nll_loss, -100),
        "another index": (nn.CrossEntropyLoss(ignore_index=CLASSES), CLASSES),
        "one of the classes": (nn.CrossEntropyLoss(ignore_index=1), None),
        "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), -100),
        "weights": (nn.CrossEntropyLoss(WEIGHTS), None),
        "weights of less precision": (nn.CrossEntropyLoss(torch.tensor([1.0, 5.0, 0.25])), None),
        "a class of weight 0": (nn.CrossEntropyLoss(NO_FIRST), -100),
        "weights, logarithms": (nn.NLLLoss(WEIGHTS), -100),
        "weights, smoothed": (nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.1), -100),
    }.values(),
)
def test_weighted_means_are_over_all_that_counts(loss: Callable[..., Tensor], ignored: int | None, tokens: bool):
    """The mean is torch's over all samples at once; the Fisher matrix weighs samples as the mean does."""
    case = Case(log=loss is nll_loss or isinstance(loss, nn.NLLLoss), tokens=tokens, ignored=ignored)
    x, y = case.data
    weight, index = getattr(loss, "weight", None), getattr(loss, "ignore_index", -100)
    exact = loss  # with weights of the model's precision
    if weight is not None:
        exact = type(loss)(weight.double(), **{k: v for k, v in vars(loss).items() if k == "label_smoothing"})
    of_class = torch.ones(CLASSES, dtype=torch.float64) if weight is None else weight.double()
    counts = of_class[y.where(y != index, 0)] * (y != index)
    total = counts.sum()

    def mean(flat: Tensor) -> Tensor:
        return exact(case.call(flat, x), y)

    fisher = torch.zeros(len(case.point), len(case.point), dtype=torch.float64)
    for row, count in enumerate(counts.view(N, -1).sum(1)):
        if count:  # torch's loss of a sample alone is its mean over what counts
            slope = jacobian(lambda flat, k=row: exact(case.call(flat, x[k : k + 1]), y[k : k + 1]), case.point)
            fisher += count / total * torch.outer(slope, slope)
    outputs = case.call(case.point, x)
    first = jacobian(lambda flat: case.call(flat, x).flatten(), case.point)
    inner = hessian(lambda z: exact(z.view_as(outputs), y), outputs.flatten())
    expected = (hessian(mean, case.point).numpy(), (first.T @ inner @ first).numpy(), fisher.numpy())
    along = directions(len(case.point)).T.numpy()
    for data, chunk in ways(case.data):
        for operator, matrix in zip(OPERATORS, expected, strict=True):
            found = operator(case.model, loss, data, chunk=chunk)
            np.testing.assert_allclose(found @ along, matrix @ along, rtol=0, atol=1e-13)
            assert found.loss() == pytest.approx(float(mean(case.point)), rel=1e-13)
    if weight is not None:
        assert loss.weight is weight and loss.reduction == "mean"


def sums(z: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(z, y, reduction="sum")


def weighted(z: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(z, y, WEIGHTS)


def contrast(z: Tensor, _: Tensor) -> Tensor:
    return cross_entropy(z @ z.T, torch.arange(len(z)))


def broadcast(z: Tensor, y: Tensor) -> Tensor:
    return mse_loss(z[:, :1], y.double())


def pairs(z: Tensor, _: Tensor) -> Tensor:
    return (z[0] - z[1]).square().sum()


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(WEIGHTS, reduction="sum"),
        nn.CrossEntropyLoss(torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)),
        nn.CrossEntropyLoss(NO_FIRST, label_smoothing=0.1),
        sums,
        weighted,
        contrast,
        broadcast,
        pairs,
    ],
)
def test_other_losses_are_refused_however_they_are_batched(loss: Callable[..., Tensor]):
    case = Case(log=False, tokens=False, ignored=None)
    x, y = case.data
    data = x[y.argsort()], y.sort().values  # so that most batches are of one class
    for given, chunk in ways(data):
        for operator in OPERATORS:
            with pytest.raises(ValueError, match=r"^loss must be the mean over the samples of a batch.*; of") as caught:
                operator(case.model, loss, given, chunk=chunk)
            assert ("mean_over='batch'" in str(caught.value)) == (operator is not fisher_operator)
    whole = hessian_operator(case.model, loss, data, mean_over="batch")
    expected = hessian(lambda flat: loss(case.call(flat, data[0]), data[1]), case.point).numpy()
    np.testing.assert_allclose(dense(whole), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("place", [0, N - 1])
def test_an_ignored_label_in_a_loss_of_the_users_is_refused_wherever_it_is(place: int):
    case = Case(log=False, tokens=False, ignored=None)
    x, y = case.data
    y[place] = -100
    for data, chunk in ways((x, y)):
        for operator in OPERATORS:
            with pytest.raises(ValueError, match="and the mean of the losses of each alone nan"):
                operator(case.model, lambda z, y: cross_entropy(z, y), data, chunk=chunk)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_means_are_accepted_with_any_batches():
    case = Case(log=False, tokens=False, ignored=None)
    x, y = case.data
    shares = nn.functional.one_hot(y, CLASSES).double()
    losses = [
        (lambda z, y: cross_entropy(z, y), y),
        (nn.CrossEntropyLoss(WEIGHTS), shares),  # of class probabilities, all samples count alike
        (nn.MSELoss(), shares),
        (nn.BCEWithLogitsLoss(WEIGHTS), shares),
        (lambda z, y: mse_loss(z[:, :1].squeeze(), y), y.double()),
    ]
    for loss, targets in losses:
        expected = hessian(lambda flat, f=loss, t=targets: f(case.call(flat, x), t), case.point).numpy()
        for data, chunk in ways((x, targets)):
            found = hessian_operator(case.model, loss, data, chunk=chunk)
            np.testing.assert_allclose(dense(found), expected, rtol=0, atol=1e-13)


class Recurrent(nn.Module):
    def __init__(self, layer: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = layer(2, CLASSES, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_single_samples_of_recurrent_layers(layer: type[nn.RNNBase], dtype: torch.dtype):
    """Which of them vmap takes depends on the type of numbers, and on whether there are gradients inside."""
    x, y = Case(log=False, tokens=True, ignored=None).data
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Recurrent(layer).to(dtype).eval()
    x, y = x.to(dtype), y[:, 0]
    found = hessian_operator(model, lambda z, y: cross_entropy(z, y), (x, y), chunk=4)
    assert found.loss() == pytest.approx(float(cross_entropy(model(x), y).detach()), rel=100 * torch.finfo(dtype).eps)
    held = [[0, 1, 5], [2, 3, 4]]
    objective = Objective(model, lambda model, batch: cross_entropy(model(batch[0]), batch[1]), (x, y), holdings=held)
    losses = Curvature(objective, objective.point.expand(2, -1)).losses()
    for rows, loss in zip(held, losses.tolist(), strict=True):
        assert loss == pytest.approx(
            float(cross_entropy(model(x[rows]), y[rows]).detach()), rel=100 * torch.finfo(dtype).eps
        )
