import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.utils.data import Dataset, TensorDataset

import basinet
from basinet.algorithms.draws import fold, key
from basinet.sim.evaluation.measuring import evaluate_with_gradient
from basinet.sim.models import MODELS, Linear, Point
from basinet.sim.tasks import (
    TASKS,
    Landscape,
    Task,
    digits,
    double_well,
    logistic,
    quadratic,
    ripples,
    supervised,
)

F64 = torch.float64


def draw(task: Task, num_keys: int, batch_size: int, agent: int = 0, dtype: torch.dtype = F64) -> tuple[Tensor, ...]:
    assert task.draw is not None
    keys = fold(torch.tensor(key(0, "test")), torch.arange(num_keys))
    return task.draw(keys, torch.full((num_keys,), agent), batch_size, dtype)


def gradient(loss: Callable[[Tensor], Tensor], w: Tensor) -> Tensor:
    w = w.clone().requires_grad_()
    return torch.autograd.grad(loss(w), w)[0]


# The landscapes


def test_quadratic_gradient_is_linear() -> None:
    task = quadratic(curvature=[3.0, 1.0], minimum=[1.0, -2.0], heterogeneity=2.0, num_agents=4, seed=1)
    point = Point(2, start=[0.5, 0.25]).double()
    inputs, targets = draw(task, 1, 6, agent=2)
    task.objective(point, (inputs[0], targets[0])).backward()
    w = point.value.detach()
    noise = (targets[0] - task.shifts[2]).mean(0)
    torch.testing.assert_close(point.value.grad, task.hessian @ (w - task.minimum) + task.shifts[2] + noise)


def test_quadratic_training_loss_is_the_excess_risk() -> None:
    task = quadratic(curvature=[3.0, 1.0], minimum=[1.0, -2.0], heterogeneity=2.0, num_agents=4)
    point = Point(2, start=[2.0, 0.0]).double()
    assert task.evaluate(point) == {"train_loss": 0.5 * (3 * 1 + 1 * 4)}
    assert task.evaluate(Point(2, start=[1.0, -2.0]).double()) == {"train_loss": 0.0}
    w = torch.tensor([0.3, 0.7], dtype=F64)
    torch.testing.assert_close(hessian(task.value, w), task.hessian)
    assert task.labels is None


def test_shifts_are_centred_and_keyed_by_agent() -> None:
    task = quadratic(curvature=1.0, dimension=3, heterogeneity=0.5, num_agents=5000)
    torch.testing.assert_close(task.shifts.sum(0), torch.zeros(3, dtype=F64), atol=1e-9, rtol=0)
    assert task.shifts.std().item() == pytest.approx(0.5, rel=0.03)
    assert not quadratic(num_agents=4).shifts.any()
    few, more = (quadratic(heterogeneity=1.0, num_agents=k).shifts for k in (3, 4))
    torch.testing.assert_close(few - few[0], (more - more[0])[:3])


def test_draws_have_the_stated_covariance() -> None:
    task = quadratic(curvature=[1.0, 1.0, 1.0], noise=[1.0, 0.5, 2.0], heterogeneity=3.0, num_agents=2)
    _, targets = draw(task, 100, 1000, agent=1)
    noise = (targets - task.shifts[1]).flatten(0, 1)
    torch.testing.assert_close(noise.mean(0), torch.zeros(3, dtype=F64), atol=0.02, rtol=0)
    torch.testing.assert_close(noise.T.cov(), task.noise_covariance, atol=0.03, rtol=0)


def test_draws_depend_on_the_key_alone() -> None:
    task = quadratic(heterogeneity=1.0, num_agents=3)
    assert task.draw is not None
    keys = fold(torch.tensor(key(0, "test")), torch.arange(3))
    inputs, targets = task.draw(keys, torch.arange(3), 4, torch.float32)
    assert (inputs.shape, targets.shape, targets.dtype) == ((3, 4, 1), (3, 4, 3), torch.float32)
    _, alone = task.draw(keys[1:2], torch.tensor([1]), 4, torch.float32)
    assert torch.equal(alone[0], targets[1])


def test_settings_for_each_coordinate_or_one_for_all() -> None:
    task = quadratic(dimension=4, curvature=2.0, noise=0.5)
    assert task.hessian.tolist() == (2 * torch.eye(4)).tolist()
    assert task.noise_covariance.trace() == 2
    with pytest.raises(ValueError, match="noise has 2 values for 3 coordinates; give one number or 3"):
        quadratic(noise=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"curvature is \[1.0, -2.0\], but no value may be below 0"):
        quadratic(curvature=[1.0, -2.0])


@pytest.mark.parametrize("settings", [{}, {"sharp": 10.0, "flat": 0.5, "depth_sharp": 1.0, "depth_flat": 0.25}])
def test_double_well_has_the_stated_minima(settings: dict[str, float]) -> None:
    task = double_well(**settings)
    wanted = {"sharp": 6.0, "flat": 1.0, "depth_sharp": 0.5, "depth_flat": 0.5} | settings
    assert task.curvatures.tolist() == pytest.approx([wanted["sharp"], wanted["flat"]])
    assert task.depths.tolist() == [wanted["depth_sharp"], wanted["depth_flat"]]
    for place, depth, curvature in zip(task.minima, task.depths, task.curvatures, strict=True):
        assert task.value(place[None]).item() == pytest.approx(-depth.item())
        assert gradient(task.value, place[None]).item() == pytest.approx(0, abs=1e-12)
        assert hessian(task.value, place[None]).item() == pytest.approx(curvature.item())


def test_double_well_is_smooth_at_the_barrier() -> None:
    task = double_well()
    for place in (-1e-9, 0.0, 1e-9):
        w = torch.tensor([place], dtype=F64)
        assert task.value(w).item() == pytest.approx(0, abs=1e-15)
        assert gradient(task.value, w).item() == pytest.approx(0, abs=1e-7)


def test_double_well_samples_tilt_the_landscape() -> None:
    task = double_well(noise=2.0, heterogeneity=1.0, num_agents=2)
    assert task.noise_covariance.tolist() == [[4.0]]
    _, targets = draw(task, 1, 8, agent=1)
    w = torch.tensor([0.7], dtype=F64)
    slope = gradient(lambda w: task.loss(w.expand(8, 1), (None, targets[0])).mean(), w)
    torch.testing.assert_close(slope, gradient(task.value, w) + targets[0].mean(0))
    point = Point(1, start=float(task.minima[0])).double()
    assert task.evaluate(point)["train_loss"] == pytest.approx(-0.5)


def test_ripples_have_one_stationary_point() -> None:
    task = ripples(dimension=3)
    w = torch.linspace(-40, 40, 12_001, dtype=F64)[:, None].expand(-1, 3)
    torch.testing.assert_close(gradient(lambda w: task.value(w).sum(), w), task.gradient(w))
    assert (task.gradient(w) * w.sign() >= 0).all()  # downhill leads to 0 from everywhere, …
    assert task.gradient(w)[w[:, 0].abs() > 1].abs().min() > 0.2  # … and nowhere gets slow
    assert not task.gradient(torch.zeros(3, dtype=F64)).any()
    curvature = task.gradient(w).diff(dim=0) / w.diff(dim=0)
    assert 1.9 < curvature.max() <= 2 and curvature.min() < 0  # not convex


def test_moving_a_task_moves_all_of_it() -> None:
    task: Landscape = quadratic(heterogeneity=1.0, num_agents=2).to("cpu", torch.float32)
    assert {t.dtype for t in (task.train[0], task.origin, task.noise, task.shifts, task.hessian)} == {torch.float32}
    assert task.evaluate(Point(3, start=1.0)) == {"train_loss": 0.0}
    moved = digits().to("cpu", F64)
    assert (moved.train[0].dtype, moved.train[1].dtype) == (F64, torch.int64)


# Logistic regression


def test_logistic_closed_forms() -> None:
    task = logistic(samples=300, dimension=4)
    model = Linear((4,), 1).double()

    def loss(w: Tensor) -> Tensor:
        return task.objective(lambda x: functional_call(model, {"1.weight": w[None]}, x), task.train)

    assert gradient(loss, task.minimum).norm() < 1e-12
    torch.testing.assert_close(hessian(loss, task.minimum), task.hessian)
    x, y = task.train
    each = torch.stack(
        [
            gradient(lambda w, i=i: task.loss((x[i] @ w)[None, None], (x[i, None], y[i, None])).sum(), task.minimum)
            for i in range(len(x))
        ]
    )
    torch.testing.assert_close(each.T.cov(correction=0), task.noise_covariance)


def test_logistic_accuracy_of_one_logit() -> None:
    task = logistic(samples=300, dimension=4)
    assert task.test is not None
    model = MODELS[task.model](task.input_shape, task.num_outputs).double()
    model.load_state_dict({"1.weight": task.minimum[None]})
    x, y = task.test
    expected = ((x @ task.minimum > 0).long() == y).double().mean().item()
    assert task.evaluate(model)["test_accuracy"] == pytest.approx(expected)
    assert 0.65 < expected < 0.95


def test_logistic_refuses_separable_classes() -> None:
    with pytest.raises(ValueError, match="10 samples in 20 dimensions are separable"):
        logistic(samples=10, dimension=20)
    with pytest.raises(ValueError, match="separable"):
        logistic(samples=20, dimension=2, signal=1000.0)


def test_logistic_depends_on_the_seed() -> None:
    assert torch.equal(logistic(seed=3).train[0], logistic(seed=3).train[0])
    assert not torch.equal(logistic(seed=3).train[0], logistic(seed=4).train[0])


# Digits


def rows(task: Task) -> list[tuple[float, ...]]:
    assert task.test is not None
    return [tuple(row) for part in (task.train, task.test) for row in part[0].flatten(1).tolist()]


def test_digits_are_all_there() -> None:
    task = digits()
    assert task.test is not None
    pixels, classes = load_digits(return_X_y=True)
    assert sorted(rows(task)) == sorted(map(tuple, (pixels / 16).tolist()))
    assert (len(task.train[0]), len(task.test[0])) == (1437, 360)
    assert (task.train[0].min(), task.train[0].max()) == (0, 1)
    lookup = {tuple(row): int(label) for row, label in zip(pixels / 16, classes, strict=True)}
    labels = torch.cat([task.train[1], task.test[1]]).tolist()
    assert labels == [lookup[row] for row in rows(task)]


def test_digits_split_is_fixed_nested_and_stratified() -> None:
    task, small = digits(), digits(train_size=203, seed=7)
    assert small.test is not None
    assert rows(task) == rows(small)
    assert (len(small.train[0]), len(small.test[0])) == (203, 1797 - 203)
    overall = np.bincount(load_digits().target) / 1797
    for part in (task.train, task.test, small.train):
        assert part is not None
        counts = torch.bincount(part[1], minlength=10).numpy()
        assert np.abs(counts - overall * len(part[1])).max() <= 1
    with pytest.raises(ValueError, match="train_size is 1438; it has to be between 1 and 1437"):
        digits(train_size=1438)


def test_digits_by_least_squares() -> None:
    """The loss is that of a regression on unit vectors, half the sum of its squares, also under a map over agents."""
    plain, task = digits(train_size=50), digits(train_size=50, loss="squared_error")
    assert torch.equal(plain.train[1], task.train[1])
    outputs = torch.randn(3, 50, 10, generator=torch.Generator().manual_seed(0), dtype=F64)
    wanted = torch.nn.functional.one_hot(task.train[1], 10).to(F64)
    expected = 5 * torch.nn.functional.mse_loss(outputs, wanted.expand(3, -1, -1), reduction="none").mean(-1)
    found = torch.vmap(task.loss, (0, None))(outputs, task.train)
    torch.testing.assert_close(found, expected)


def test_digits_label_noise() -> None:
    clean, noisy = digits(), digits(label_noise=0.4, seed=1)
    assert clean.test is not None
    assert noisy.test is not None
    changed = clean.train[1] != noisy.train[1]
    assert int(changed.sum()) == round(0.4 * 1437)
    assert torch.equal(clean.test[1], noisy.test[1])
    steps = torch.bincount((noisy.train[1] - clean.train[1])[changed] % 10, minlength=10)
    assert steps[0] == 0
    assert steps[1:].min() > 30  # 64 expected for each other class
    assert torch.equal(noisy.train[1], digits(label_noise=0.4, seed=1).train[1])
    assert not torch.equal(noisy.train[1], digits(label_noise=0.4, seed=2).train[1])


# The user's own data


class Pairs(Dataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_supervised_takes_what_torch_takes() -> None:
    x, y = torch.rand(6, 2, 3), torch.tensor([0, 1, 4, 0, 1, 2])
    for data in ((x, y), TensorDataset(x, y), Pairs([(x[i].numpy(), int(y[i])) for i in range(6)])):
        task = supervised(data, (x[:2], y[:2].to(torch.uint8)))
        assert task.test is not None
        assert torch.equal(task.train[0], x)
        assert torch.equal(task.train[1], y)
        assert task.test[1].dtype == torch.int64
        assert (task.input_shape, task.num_outputs, task.classification) == ((2, 3), 5, True)


def test_supervised_regression() -> None:
    x = torch.rand(6, 3)
    task = supervised((x, x.sum(1).double()), (x, x.sum(1)))
    model = Linear(task.input_shape, task.num_outputs)
    model.load_state_dict({"1.weight": torch.ones(1, 3)})
    assert task.evaluate(model) == pytest.approx(
        {"train_loss": 0.0, "test_loss": 0.0, "generalization_gap": 0.0}, abs=1e-12
    )
    wide = supervised((x, torch.zeros(6, 2, 2, dtype=torch.int64)), classification=False)
    assert wide.num_outputs == 4
    assert wide.loss(torch.full((6, 4), 2.0), wide.train).tolist() == [4.0] * 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Pairs([torch.zeros(2)]), "train holds a single array, where inputs and targets are wanted"),
        (
            Pairs([(torch.zeros(2), 0), (torch.zeros(3), 1)]),
            r"items 0 and 1 .* shape \(2,\) and the other the",
        ),
        (Pairs([(object(), 0)]), "items of train make no batch"),
        (Pairs([]), "train is empty"),
        ((torch.zeros(3, 2), torch.zeros(2)), "train has 3 inputs and 2 targets"),
        ((torch.zeros(3, 2),), "train holds 1 entries, where inputs and targets are wanted"),
        ((torch.zeros(2, 2), torch.tensor([-1, 0])), "integers from 0 on"),
    ],
)
def test_supervised_refuses(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        supervised(data)


# All tasks


SMALL = {name: {"train_size": 6, "test_size": 2} for name in ("listops", "pathfinder", "pixel_sequence", "retrieval")}
SMALL["text"] = {"length": 64, "train_size": 6, "test_size": 2}
SMALL["image_quality"] = {"contents": 6, "size": 32, "patch": 32, "levels": 1, "cache": "cache"}
SMALL["image_aesthetics"] = {"size": 32, "levels": 1, "edits": ["exposure"], "cache": "cache"}
SMALL["video_language"] = {"videos": 4, "test_videos": 2}
SMALL["video_quality"] = {"contents": 6, "size": 64, "frames": 2, "cache": "cache"}
SMALL["pretrained_ensemble"] = SMALL["video_quality"] | {"extractors": ("random", "scene_statistics")}

SMALL["quality_pretraining"] = {"train_photos": ["coffee"], "test_photos": ["coins"], "crops": 2}


@pytest.mark.parametrize(
    "name", sorted(TASKS.keys() - {"huggingface", "image_folder", "language_model", "shards", "table"})
)
def test_default_model_fits_the_task(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = TASKS[name](**SMALL.get(name, {})).to("cpu", torch.float32)
    wanted = inspect.signature(MODELS[task.model]).parameters
    model = MODELS[task.model](**{key: value for key, value in task.model_arguments.items() if key in wanted})
    metrics = task.evaluate(model)
    assert all(np.isfinite(value) for value in metrics.values())
    assert ("test_accuracy" in metrics) == task.classification


def test_evaluating_in_chunks_changes_nothing() -> None:
    task = digits(train_size=100).to("cpu", F64)
    model = MODELS["softmax"](task.input_shape, task.num_outputs).double()
    whole = task.evaluate(model)
    assert task.evaluate(model, chunk=7) == pytest.approx(whole, rel=1e-12)
    assert whole["generalization_gap"] == whole["test_loss"] - whole["train_loss"]
    assert whole["train_loss"] == pytest.approx(task.objective(model, task.train).item(), rel=1e-12)


def test_evaluating_a_loss_of_other_inputs() -> None:
    class Consistency(Task):
        def objective(self, model: Callable[[Tensor], Tensor], batch: tuple[Tensor, ...]) -> Tensor:
            return (model(batch[0]) - model(2 * batch[0])).square().mean()

    task = Consistency(train=(torch.ones(3, 1), torch.zeros(3)), num_outputs=1, classification=False)
    model = Linear((1,), 1)
    model.load_state_dict({"1.weight": torch.tensor([[2.0]])})
    assert task.evaluate(model) == {"train_loss": 4.0}


def test_the_gradient_norm_is_that_of_the_whole_training_loss():
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).view(6, 2)
    task = supervised((x, x.sum(1, keepdim=True)))
    model = MODELS["linear"](input_shape=(2,), num_outputs=1).double()
    weight = model[1].weight
    expected = 2 * ((x @ weight.detach().mT - x.sum(1, keepdim=True)) * x).mean(0).norm()
    for chunk in (2, 5, 6):
        assert evaluate_with_gradient(task, model, chunk=chunk)["gradient_norm"] == pytest.approx(float(expected))
    assert weight.grad is None


def test_a_task_may_measure_in_its_own_way():
    class Own(Task):
        def evaluate(self, model):
            return {"train_loss": 0.5, "test_accuracy": 0.25}

    own = Own(train=(torch.randn(6, 2), torch.arange(6) % 2), num_outputs=2)
    found = evaluate_with_gradient(own, MODELS["linear"](input_shape=(2,), num_outputs=2))
    assert found.pop("gradient_norm") > 0 and found == {"train_loss": 0.5, "test_accuracy": 0.25}


@pytest.mark.parametrize("tokens", [torch.tensor([[0, 5]]), torch.tensor([[-1, 0]]), torch.tensor([[0.0, 1.0]])])
def test_tokens_are_those_of_the_vocabulary(tokens):
    with pytest.raises(ValueError, match="allowed are tokens of type int64 from 0 to 4"):
        Task(train=(tokens, torch.tensor([0])), num_outputs=2, vocabulary=5).check()


def test_models_get_what_tokens_there_are(tmp_path, no_reports):
    found = []

    def model(vocabulary, padding, seed, num_outputs):
        found.append((vocabulary, padding, seed, num_outputs))
        return nn.Sequential(nn.Embedding(vocabulary, 2), nn.Flatten(), nn.Linear(6, num_outputs))

    tokens = torch.arange(12).view(4, 3) % 5
    task = Task(train=(tokens, torch.tensor([0, 1, 0, 1])), num_outputs=2, vocabulary=5, padding=0)
    basinet.run(
        task=task,
        model=model,
        topology={"name": "ring", "agents": 3},
        strategy="diffusion",
        steps=1,
        seed=7,
        replicas=1,
        out=tmp_path / "run",
    )
    assert set(found) == {(5, 0, 7, 2)}
