"""What users give as data: read as they mean it, left as it is, or refused with a sentence."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from basinet.sim.agents.worker import Worker
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.models import Linear
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import IGNORED, Batch, Regression, SquaredError, Task, supervised

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


class Squeezed(nn.Module):
    """Returns as many axes of length one behind the samples as are wanted, of one number a sample."""

    def __init__(self, ones: int) -> None:
        super().__init__()
        self.ones = ones
        self.linear = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).view(-1, *(1,) * self.ones)


# Shapes


@pytest.mark.parametrize("kind", [Task, SquaredError])
@pytest.mark.parametrize("axes", [(1,), (1, 1)])
def test_a_column_of_labels_is_a_list_of_labels(kind: type[Task], axes: tuple[int, ...]) -> None:
    model = Linear((4,), 2)
    wanted = kind(train=(X, Y), test=(X, Y), num_outputs=2).evaluate(model)
    data = (X, Y.view(-1, *axes))
    task = kind(train=data, test=data, num_outputs=2)
    assert task.evaluate(model) == wanted
    assert task.labels is not None and torch.equal(task.labels, Y)
    assert torch.equal(supervised(data).train[1], Y)


@pytest.mark.parametrize("ones", [0, 1, 2])
@pytest.mark.parametrize("axes", [(), (1,), (1, 1)])
def test_outputs_and_numbers_of_any_axes_of_length_one(ones: int, axes: tuple[int, ...]) -> None:
    model, y = Squeezed(ones), X.sum(1)
    wanted = float((model(X).flatten() - y).square().mean().detach())
    for task in (supervised((X, y.view(-1, *axes))), Regression(train=(X, y.view(-1, *axes)), num_outputs=1)):
        assert task.evaluate(model)["train_loss"] == pytest.approx(wanted, rel=1e-6)
    images = supervised((X, X.view(-1, 2, 2)))
    assert images.loss(X.view(-1, 2, 2) + 1, images.train).tolist() == pytest.approx([1.0] * 12)


class Plain(Task):
    """A loss that broadcasts whatever it is given."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs - batch[1]).square()


class Reduced(Task):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(outputs, batch[1])


class Counted(Task):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.argmax(-1) - batch[1]


class Listed(Task):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return [outputs]  # type: ignore[return-value]


class Column(Task):
    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(-1, keepdim=True)


class Scores(Task):
    def predict(self, outputs: Tensor) -> Tensor:
        return outputs


def test_predictions_may_be_a_column() -> None:
    model = Linear((4,), 2)
    found = Column(train=(X, Y), test=(X, Y), num_outputs=2).evaluate(model)
    assert found == Task(train=(X, Y), test=(X, Y), num_outputs=2).evaluate(model)


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ((X, Y), nn.Linear(4, 1), r"outputs of shape \(2, 1\) for 2 classes"),
        (
            (X, X[:, :3].long().clamp(0)),
            nn.Linear(4, 9),
            r"targets of shape \(2, 3\) the model returns outputs of shape",
        ),
        ((X, nn.functional.one_hot(Y)), nn.Linear(4, 2), r"\(2, 2, 2\) is wanted: .*; multi-hot targets are given as"),
        ((X.byte(), Y), nn.Linear(4, 2), r"got Byte and \w+; it would take the inputs as float\d\d$"),
        ((X.abs().byte(), Y), nn.Sequential(nn.Embedding(9, 2), nn.Flatten()), "; it would take the inputs as int64$"),
        ((X[:, :3].byte(), Y), nn.Linear(4, 2), r"got Byte and \w+$"),
        ((X, X[:, :2]), nn.Linear(4, 3), r"outputs of shape \(2, 3\), where \(2, 2\) is wanted"),
        ((X, X[:, :2]), Squeezed(0), r"outputs of shape \(2,\), where \(2, 2\) is wanted"),
        (
            Plain(train=(X, X[:, 0]), num_outputs=1, classification=False),
            Squeezed(1),
            r"the shape \(2, 2\) .*a loss for",
        ),
        (Plain(train=(X, X[:, :1]), num_outputs=1, classification=False), Squeezed(0), r"\(2, 2\) .*a loss for each"),
        (Reduced(train=(X, Y), num_outputs=2), nn.Linear(4, 2), r"the shape \(\) .*a loss for each sample"),
        (
            Counted(train=(X, Y), num_outputs=2),
            nn.Linear(4, 2),
            r"^task: .*Counted\.loss returns a tensor of torch\.int64; allowed is a tensor of floating-point",
        ),
        (Listed(train=(X, Y), num_outputs=2), nn.Linear(4, 2), r"^task: .*Listed\.loss returns a list; allowed"),
        (
            Scores(train=(X, Y), test=(X, Y), num_outputs=2),
            nn.Linear(4, 2),
            r"predict returns classes of shape \(3, 2\)",
        ),
        (Task(train=(X, Y), test=(X[:, :3], Y), num_outputs=2), nn.Linear(4, 2), "^model: .*mat1 and mat2 shapes"),
        (Task(train=(X, Y.float()), num_outputs=2), None, "of type float32, and those of a classification .* int64"),
        (Task(train=(X, Y + 1), num_outputs=2), None, "run from 1 to 2; allowed are the classes 0 to 1"),
        (Task(train=(X, Y[:5]), num_outputs=2), None, "12 and 5 entries"),
        (Task(train=(X.numpy(), Y.numpy()), num_outputs=2), None, "has to be a nest of tensors"),  # type: ignore[arg-type]
        (Task(train=(X.to_sparse(), Y), num_outputs=2), None, "sparse"),
    ],
)
def test_what_does_not_fit_is_refused(make_setup: Any, task: Any, model: Any, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        make_setup(task=task, **({} if model is None else {"model": model}))


# Writing


class Writer(nn.Module):
    """Doubles its inputs, in place or not, in one mode or in both."""

    def __init__(self, *, modes: tuple[bool, ...] = (True, False), past: bool = False) -> None:
        super().__init__()
        self.modes, self.past = modes, past
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training not in self.modes:
            return self.linear(2 * x)
        (x.data if self.past else x).mul_(2)
        return self.linear(x)


@pytest.mark.parametrize("settings", [{"modes": (True,)}, {"modes": (False,)}, {}, {"past": True}])
@pytest.mark.parametrize("engine", ["loop", "auto"])
def test_a_model_may_write_into_its_inputs(make_block: Any, settings: dict[str, Any], engine: str) -> None:
    x = X.double()
    states = []
    for keys in ({"modes": ()}, settings):
        torch.manual_seed(0)
        runtime = {"dtype": "float64", "device": "cpu", "engine": engine}
        block = make_block(task=((x, Y), (x, Y)), model=Writer(**keys), runtime=runtime, analysis=[], trial=True)
        assert block.setup.clones_inputs == bool(keys.get("modes", True))
        worker = Worker(block.setup, block.placement, "loop")
        worker.advance(5)
        states.append((worker.block.x, worker.measure()))
    torch.testing.assert_close(states[0][0], states[1][0], rtol=0, atol=0)
    assert states[0][1] == states[1][1]
    assert torch.equal(x, X.double())


class WritesTargets(Task):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(outputs, batch[1].clamp_(max=0), reduction="none")


class WritesOutputs(Task):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(outputs.mul_(-1), batch[1], reduction="none")


def test_a_loss_must_not_write_into_the_data(make_setup: Any) -> None:
    y = Y.clone()
    with pytest.raises(ExperimentError, match="loss or the metrics of WritesTargets write into the batch"):
        make_setup(task=WritesTargets(train=(X, y), num_outputs=2))
    assert torch.equal(y, Y)


def test_a_loss_that_writes_into_the_outputs_leaves_the_accuracy() -> None:
    model = Linear((4,), 2)
    found = (kind(train=(X, Y), test=(X, Y), num_outputs=2).evaluate(model) for kind in (Task, WritesOutputs))
    assert len({metrics["test_accuracy"] for metrics in found}) == 1


def test_a_partition_and_autograd_leave_the_data(make_block: Any) -> None:
    x, y = X.double().requires_grad_(), Y.clone()

    def by_label(labels: np.ndarray, num_agents: int) -> list[np.ndarray]:
        labels.sort()
        return [np.arange(12)] * num_agents

    block = make_block(task={"name": (x, y), "partition": by_label}, analysis=[])
    block.advance(2)
    assert torch.equal(y, Y) and x.grad is None


# Types


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.int16])
def test_numbers_keep_their_fractions_whatever_the_inputs(kind: torch.dtype) -> None:
    inputs, y = (10 * X.abs()).to(kind), X.sum(1)
    task = supervised((inputs, y))
    assert not task.classification and torch.equal(task.train[1], y[:, None])
    assert "squared error, without an accuracy" in task.about_loss


def test_numbers_are_not_rounded_to_the_type_of_the_inputs() -> None:
    y = X.sum(1).double() + 1e-9
    assert torch.equal(supervised((X.half(), y)).train[1][:, 0], y)
    large = torch.tensor([2**40 + 1] * 12)
    assert torch.equal(supervised((X, large), classification=False).train[1][:, 0].long(), large)
    half = supervised((X.bfloat16(), Y)).to("cpu", torch.float64)
    assert torch.equal(half.train[0], X.bfloat16().double())
    assert Task(train=(X.to(torch.complex64), Y), num_outputs=2).to("cpu", torch.float64).train[0].dtype.is_complex


@pytest.mark.parametrize(
    "labels",
    [Y.bool(), Y.double(), Y.to(torch.uint16), Y.numpy().astype(np.uint64), Y.numpy().astype(">i4"), Y.tolist()],
    ids=str,
)
def test_labels_of_any_type(labels: Any) -> None:
    task = supervised((X, labels), classification=True)
    assert torch.equal(task.train[1], Y) and task.train[1].dtype == torch.int64


def test_a_list_of_samples_is_no_grid() -> None:
    samples = [(x, int(y)) for x, y in zip(X, Y, strict=True)]
    (config,) = Experiment(task=samples, topology={"name": "ring", "agents": 2}, strategy="diffusion").runs.values()
    task = build_setup(config).task
    assert torch.equal(task.train[0], X) and torch.equal(task.train[1], Y)
    grid = Experiment(task=[(X, Y), (X, 1 - Y)], topology={"name": "ring", "agents": 2}, strategy="diffusion")
    assert len(grid.runs) == 2


def test_labels_of_small_types_are_counted_right() -> None:
    y = torch.full((12,), 256 + IGNORED, dtype=torch.uint8)
    task = supervised((X, y))
    assert (task.num_outputs, task.ignores) == (256 + IGNORED + 1, False)


class Number(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 2, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.weight.dtype) @ self.weight).abs()


class Phase(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 2)
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64))


class Patient(nn.Module):
    """Takes missing numbers for zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.nan_to_num())


HOLED = torch.where(torch.arange(12)[:, None] == 7, torch.nan, X)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": Number}, "^model: .*parameter weight .* is complex"),
        ({"model": Phase}, "^model: .*buffer phase .* is complex"),
        ({"task": (HOLED, Y)}, "sample 7 of train holds numbers that are infinite or not a number in float64"),
        ({"task": ((X, Y), (HOLED, Y))}, "sample 7 of test holds"),
        ({"task": (X.double() * 1e300, Y), "runtime": {"dtype": "float32"}}, "sample 0 of train .* in float32"),
    ],
)
def test_numbers_that_the_run_cannot_hold_are_refused(make_setup: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        make_setup(**{"task": (X, Y), **keys})


def test_a_model_may_know_what_to_do_with_missing_numbers(make_setup: Any) -> None:
    assert not make_setup(task=(HOLED, Y), model=Patient).clones_inputs


# Forms


@pytest.mark.parametrize(
    "given",
    [
        (X.numpy(), Y.numpy()),
        [X, Y],
        [X.numpy(), Y.numpy()],
        (X.tolist(), Y.tolist()),
        (list(X), list(Y)),
        (X.numpy().astype(">f4"), Y.numpy()),
        (np.asfortranarray(X.numpy())[::-1][::-1], Y.numpy()),
        [(X[i], int(Y[i])) for i in range(12)],
        TensorDataset(X, Y),
    ],
    ids=range(9),
)
def test_all_forms_of_data_are_the_same(make_setup: Any, given: Any) -> None:
    for task in (supervised(given, given), make_setup(task=(given, given)).task):
        assert task.test is not None
        for data in (task.train, task.test):
            torch.testing.assert_close(data[0].float(), X, rtol=0, atol=0)
            assert torch.equal(data[1], Y)


def test_read_only_arrays_are_taken() -> None:
    x, y = X.numpy().copy(), Y.numpy().copy()
    x.flags.writeable = y.flags.writeable = False
    assert torch.equal(supervised((x, y)).train[0], X)


class Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise KeyError("no file")
        return X[index], int(Y[index])


class Words(Dataset[Any]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return X[index], "ab"[index % 2]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (DataLoader(TensorDataset(X, Y)), r"train is a DataLoader; give the data set that it reads, `loader.dataset`"),
        ((TensorDataset(X, Y), DataLoader(TensorDataset(X, Y))), "test is a DataLoader"),
        (Endless(), "train is a Endless, whose items have no index; .*window="),
        (Broken(), "item 3 of train raises KeyError: 'no file'"),
        (Words(), "items of train make a list of words in part '1', where a tensor is needed; .*return_inverse=True"),
        ((X.numpy(), np.array(["a", "b"])[Y]), "targets of train are a ndarray of <U1"),
        ((X.numpy(), np.ma.masked_equal(Y.numpy(), 0)), "targets of train are a MaskedArray"),
        ((X, X[:, 0].to(torch.complex64)), "complex"),
        (
            X.numpy(),
            r"train holds a single array, where inputs and targets are wanted; allowed are \(inputs, targets\)",
        ),
        (((X, Y),) * 3, r"train holds 3 entries .*it is \(\(inputs, targets\), \(test inputs, test targets\)\)"),
        (((1.0, 2.0), (0, 1)), "inputs of train are a single number"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "inputs of train make no array"),
        (((X, Y), (X[:, :3], Y)), r"inputs of test have the shape \(3,\), and those of train \(4,\)"),
        (((X, Y), (X.long(), Y)), "inputs of test are torch.int64, and those of train torch.float32"),
        (((X, Y), (X, Y.float())), "targets of test are torch.float32"),
        (((X, Y), (X, Y + 3)), "targets of test run from 3 to 4; allowed are the classes 0 to 1"),
    ],
    ids=range(16),
)
def test_what_is_no_data_is_refused(make_setup: Any, given: Any, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        make_setup(task=given)


def test_fractions_are_no_classes() -> None:
    with pytest.raises(ValueError, match=r"integers from 0 on .* train has 0.5"):
        supervised((X, torch.full((12,), 0.5)), classification=True)


# Tasks of one's own, which may be otherwise


class Autoencoder(Task):
    def objective(self, model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[0])


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": self.linear(x)}


class ByName(Task):
    def objective(self, model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0])["scores"], batch[1])

    def predict(self, outputs: Any) -> Tensor:
        return outputs["scores"].argmax(-1)


class InItsOwnWay(Task):
    def evaluate(self, model: nn.Module, *, chunk: int = 4096) -> dict[str, float]:
        return {"train_loss": 0.0}


@pytest.mark.parametrize(
    ("task", "model"),
    [
        (Autoencoder(train=(X,), num_outputs=4, classification=False), "linear"),
        (ByName(train=(X, Y), test=(X, Y), num_outputs=2), Named),
        (InItsOwnWay(train=(X, Y), test=("a folder",), num_outputs=2), "softmax"),  # type: ignore[arg-type]
    ],
)
def test_a_task_of_ones_own_may_do_otherwise(make_block: Any, task: Task, model: Any) -> None:
    before = digest(task)
    block = make_block(task=task, model=model, analysis=[])
    block.advance(2)
    assert block.x.isfinite().all()
    assert not task.ignores and digest(task) == before  # what is derived from the data is no part of it
