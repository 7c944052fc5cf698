"""The functional door: any nest as data, losses and weights as functions."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from basinet.sim.data.nests import fields_of, leaves
from basinet.sim.data.rows import take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import OwnLoss, Task, supervised

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


@dataclass
class Sample:
    x: Any
    target: Any


Named = namedtuple("Named", ["x", "y"])


@pytest.mark.parametrize(
    "given",
    [
        {"x": X.numpy(), "labels": Y.numpy()},
        {"x": list(X), "y": Y.tolist()},
        Sample(X.numpy(), Y),
        Named(X, Y.numpy()),
        [{"x": x, "label": int(y)} for x, y in zip(X, Y, strict=True)],
        [Sample(x.numpy(), int(y)) for x, y in zip(X, Y, strict=True)],
        (X, X, Y),
    ],
    ids=["mapping", "lists", "dataclass", "named tuple", "mappings", "dataclasses", "three tensors"],
)
def test_any_nest_is_data(given: Any) -> None:
    if isinstance(given, list) and isinstance(given[0], Sample):
        with pytest.raises(ExperimentError, match="make no batch"):  # torch collates no dataclasses
            supervised(given)
        given = Sample(X, Y)
    task = supervised(given, given)
    assert (task.num_outputs, task.classification) == (2, True)
    first, *_, last = leaves(task.train)
    assert torch.equal(first, X) and torch.equal(last, Y) and torch.equal(task.labels, Y)  # type: ignore[arg-type]
    assert type(task.train) is (dict if isinstance(given, list) else type(given))
    if fields_of(given).keys() & {"x"}:

        class Net(nn.Linear):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x)

        model = Net(4, 2)
        wanted = nn.functional.cross_entropy(model(X), Y).item()
        assert task.evaluate(model)["test_loss"] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": X, "z": Y}, "train holds x, z, where inputs and targets are wanted; .* target= names"),
        ({"x": X, "y": Y[:5]}, "train has 12 part 'x' and 5 part 'y'"),
        ({"x": X, "y": ["a"] * 12}, "the part 'y' of train are a list of <U1, where numbers are needed"),
        ({"x": X[:0], "y": Y[:0]}, "train is empty"),
        ({}, "train is empty"),
        ("words", "train is a str; allowed are a Dataset"),
    ],
    ids=range(6),
)
def test_what_is_no_nest_of_inputs_and_targets_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        supervised(given)
    with pytest.raises(ValueError, match="test holds part 'x', part 'other', and train part 'x', part 'y'"):
        supervised({"x": X, "y": Y}, {"x": X, "other": Y})


def test_weights_make_a_weighted_mean() -> None:
    weights = torch.linspace(0, 1, 12)
    model = nn.Linear(4, 2)
    data = (X, weights, Y)
    task = supervised(data, weights=lambda batch: batch[1])
    losses = nn.functional.cross_entropy(model(X), Y, reduction="none")
    task_model = type("Two", (nn.Linear,), {"forward": lambda self, x, w: nn.Linear.forward(self, x)})(4, 2)
    task_model.load_state_dict(model.state_dict())
    wanted = float(((losses * weights).sum() / weights.sum()).detach())
    assert task.weighs and task.evaluate(task_model)["train_loss"] == pytest.approx(wanted, rel=1e-6)
    numbers = supervised((X, X.sum(1)), weights=lambda batch: torch.ones(len(batch[0])))
    plain = supervised((X, X.sum(1)))
    line = nn.Linear(4, 1)
    assert numbers.evaluate(line)["train_loss"] == pytest.approx(plain.evaluate(line)["train_loss"], rel=1e-6)


class WithWeights(Dataset[Any]):
    """Samples with weights of their own."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        return X[index], self.weights[index], int(Y[index])


class OwnWeights(Task):
    def weights(self, batch: Any) -> Tensor:
        return batch[1]


@pytest.mark.parametrize("wrong", [-0.5, float("inf"), float("nan")])
@pytest.mark.parametrize("row", [1, 7])
def test_weights_are_finite_and_not_negative(row: int, wrong: float) -> None:
    weights = torch.ones(12)
    weights[row] = wrong
    data = (X, weights, Y)
    message = f"finite numbers of at least 0, and that of sample {row} of train is {wrong:g}"
    with pytest.raises(ValueError, match=message):
        supervised(data, weights=lambda batch: batch[1])
    with pytest.raises(ValueError, match=message):
        OwnWeights(train=data, num_outputs=2).check()
    with pytest.raises(ValueError, match=message.replace("train", "test")):
        supervised((X, torch.ones(12), Y), data, weights=lambda batch: batch[1])
    if not weights.isnan().any():  # NaN is refused as such
        with pytest.raises(ExperimentError, match=f"^task: .*{message}"):
            take(supervised(WithWeights(weights), lazy=True, weights=lambda batch: batch[1]).train, slice(None))


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


class OfItself(nn.Module):
    def __init__(self, *, says: bool = True) -> None:
        super().__init__()
        self.linear, self.says = nn.Linear(4, 2), says

    def forward(self, x: Tensor, labels: Tensor) -> Output:
        logits = self.linear(x)
        return Output(logits, nn.functional.cross_entropy(logits, labels) if self.says else None)


def test_a_model_may_return_its_loss(make_block: Any) -> None:
    data = {"x": X.double(), "labels": Y}
    task = supervised(data, data, loss="model", classification=True)
    assert isinstance(task, OwnLoss) and task.mean_over == "batch"
    plain = supervised(data, data)
    model = OfItself().double()
    assert task.evaluate(model) == pytest.approx(plain.evaluate(model), rel=1e-12)
    keys = {"model": model, "analysis": [], "runtime": {"dtype": "float64", "engine": "loop"}}
    blocks = [make_block(task=t, **keys) for t in (task, plain)]
    for block in blocks:
        block.advance(3)
    torch.testing.assert_close(blocks[0].x, blocks[1].x, rtol=1e-12, atol=1e-12)


def broken(outputs: Any, batch: Any) -> Tensor:
    raise KeyError("nothing")


@pytest.mark.parametrize(
    ("loss", "model", "message"),
    [
        (broken, nn.Linear(4, 2), r"^task: .*KeyError: 'nothing' \(.*test_supervised.py:\d+\)"),
        ("model", OfItself(says=False), "returns a Output without a loss, which `loss` asks it for"),
        (lambda out, batch: out.sum(), nn.Linear(4, 2), r"loss returns the shape \(\)"),
        (lambda out, batch: out[:, 0].int(), nn.Linear(4, 2), "allowed is a tensor of floating-point numbers"),
    ],
    ids=range(4),
)
def test_losses_that_do_not_fit_are_refused(make_setup: Any, loss: Any, model: Any, message: str) -> None:
    data = {"x": X, "labels": Y} if isinstance(model, OfItself) else (X, Y)
    with pytest.raises(ExperimentError, match=message):
        make_setup(task=supervised(data, loss=loss), model=model)


def test_a_loss_needs_no_targets() -> None:
    for given, model in ((X, nn.Linear(4, 4)), (X.numpy(), nn.Linear(4, 4)), ((X,), nn.Linear(4, 4))):
        task = supervised(given, loss=lambda out, batch: (out - leaves(batch)[0]).square().mean(1), num_outputs=4)
        wanted = (model(X) - X).square().mean().item()
        assert task.evaluate(model)["train_loss"] == pytest.approx(wanted, rel=1e-6)
    assert np.isfinite(supervised((X, X), loss=lambda out, batch: out.mean(1)).num_outputs)


class Rated(nn.Linear):
    """A model that names what it takes and what it returns."""

    def forward(self, x: Tensor) -> Any:
        return {"pred": super().forward(x)}


RATED = {"x": torch.zeros(5, 8), "rating": torch.zeros(5)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"loss": lambda o, b: (o["pred"] - b["rating"]) ** 2},
            r"loss returns the shape \(\d, \d\) for",
        ),
        (
            {"weights": lambda b: torch.ones(3)},
            r"weights of shape \(3,\) for 5 samples; allowed is a tensor",
        ),
        ({"weights": lambda b: [1] * len(b["x"])}, "weights of type list for 5 samples"),
        ({"weights": lambda b: torch.ones(len(b["x"]), 7)}, r"weights of shape \(\d, 7\) for losses of shape"),
        ({"weights": lambda b: torch.zeros(len(b["x"]))}, "all weights of train are 0"),
        ({"weights": lambda b: torch.ones(len(b["x"])), "mean_over": "batch"}, "weights are for a mean over samples"),
        ({"loss": "modle"}, "loss is 'modle'; allowed are a function of outputs and batch, and 'model'"),
        ({"mean_over": "batches"}, "mean_over is 'batches'; allowed are samples and batch"),
        ({"target": "lable"}, "a batch has no field 'lable' for the targets; it has x, rating"),
    ],
)
def test_what_is_asked_for_by_mistake(make_setup: Any, settings: dict[str, Any], message: str) -> None:
    usual = {"loss": lambda o, b: (o["pred"][:, 0] - b["rating"]) ** 2}
    with pytest.raises((ValueError, ExperimentError), match=message):
        make_setup(task=supervised(RATED, **(usual | settings)), model=Rated(8, 1), analysis=[])


def test_a_model_and_a_batch_without_a_field_in_common(make_setup: Any) -> None:
    task = supervised({"pixels": torch.zeros(5, 8), "label": torch.arange(5) % 2})
    with pytest.raises(ExperimentError, match="the forward of Rated needs x, and a batch has pixels, label"):
        make_setup(task=task, model=Rated(8, 2), analysis=[])


def test_classes_come_last(make_setup: Any) -> None:
    task = supervised((torch.zeros(5, 1, 4, 4), torch.zeros(5, 4, 4, dtype=torch.int64)), num_outputs=3)
    with pytest.raises(ExperimentError, match=r"the classes have to be the last dimension"):
        make_setup(task=task, model=nn.Conv2d(1, 3, 1), analysis=[])
