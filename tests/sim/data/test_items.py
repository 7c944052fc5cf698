"""Items of a data set that are read when needed: the same batches as in memory, wherever and whenever they are read."""

import os
import random
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import Dataset

import basinet
from basinet.algorithms import draws
from basinet.analysis.plots import plot_partition
from basinet.analysis.plots.partition import load_partition
from basinet.analysis.runs.context import AnalysisContext
from basinet.sim.data.items import Items
from basinet.sim.data.nests import leaves
from basinet.sim.data.pad import Pad
from basinet.sim.data.rows import Stored, in_memory, length, take
from basinet.sim.data.sampling import EpochSampler, IndependentSampler, make_sampler
from basinet.sim.engines import ENGINES
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.analyzed import analysis_settings, samples_used
from basinet.sim.run.folder import load_runs
from basinet.sim.tasks import OwnLoss, supervised
from tests.processes import Processes

HOLDINGS = [np.arange(0, 7), np.arange(7, 17), np.arange(17, 20)]
X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 2


class Pictures(Dataset[Any]):
    """Pairs; some draw from a global generator, or fail."""

    def __init__(self, noise: str = "", broken: int | None = None) -> None:
        self.noise, self.broken = noise, broken
        self.files = [f"picture{index}.png" for index in range(20)]
        self.own = random.Random(0)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        if index == self.broken:
            raise OSError("truncated")
        shift = {
            "": lambda: 0.0,
            "torch": lambda: float(torch.rand(())),
            "numpy": lambda: np.random.rand(),  # noqa: NPY002
            "random": random.random,
            "own": self.own.random,
            "nan": lambda: float("nan") if index == 5 else 0.0,
        }[self.noise]()
        return X[index] + shift, int(Y[index])


@dataclass
class Sample:
    x: Tensor
    target: int


def keys() -> Tensor:
    return draws.agent_keys(0, "batch", torch.zeros(3, dtype=torch.int64), torch.arange(3))


def jitter(item: Any, rng: np.random.Generator) -> Any:
    return item[0] + rng.normal() + random.random(), item[1]


def lazily(**settings: Any) -> Stored:
    task = supervised(Pictures(settings.pop("noise", ""), settings.pop("broken", None)), lazy=True, **settings)
    assert isinstance(task.train, Stored)
    return task.train


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(*pair) for pair in zip(leaves(a), leaves(b), strict=True))


@pytest.mark.parametrize("kind", [EpochSampler, IndependentSampler])
def test_batches_are_those_in_memory(kind: Any) -> None:
    memory = supervised(Pictures()).train
    one, other = kind(memory, HOLDINGS, keys(), 4), kind(lazily(), HOLDINGS, keys(), 4)
    for step in (0, 1, 7):
        assert same(one.batch(step), other.batch(step)) and same(one.batch(step, 6), other.batch(step, 6))
    assert all(same(a, b) and torch.equal(s, t) for (a, s), (b, t) in zip(one.sweep(), other.sweep(), strict=True))


@pytest.mark.parametrize("noise", ["torch", "numpy", "random", "transform"])
def test_draws_are_those_of_agent_step_and_position(noise: str) -> None:
    data = lazily(transform=jitter) if noise == "transform" else lazily(noise=noise)
    sampler, before = EpochSampler(data, HOLDINGS, keys(), 4), torch.random.get_rng_state()
    steps = [sampler.batch(step) for step in range(6)]
    assert torch.equal(before, torch.random.get_rng_state())
    for step in (5, 2):
        alone = EpochSampler(data, HOLDINGS[1:2], keys()[1:2], 4)
        random.seed(step)
        assert torch.equal(alone.batch(step)[0][0], steps[step][0][1])
    rows = sampler.rows(0, 4)
    shift = steps[0][0] - X[rows]
    assert torch.unique((1e3 * shift[..., 0]).round()).numel() == 12
    measured = take(data, torch.arange(20))
    assert same(measured, take(data, torch.arange(20)))
    assert torch.equal(measured[0], X) == (noise == "transform")  # measured samples are not transformed


@pytest.mark.parametrize("kind", ["epochs", "independent"])
def test_processes_read_the_same_ahead(kind: Any) -> None:
    task = supervised(Pictures(), lazy=True, transform=jitter, num_outputs=2)
    state = torch.random.get_rng_state()
    one, other = (
        make_sampler(kind, task, HOLDINGS, torch.arange(3), keys(), 4, torch.float32, readers=n) for n in (0, 2)
    )
    for step in (0, 1, 2, 5, 6, 40, 3):
        assert same(one.batch(step), other.batch(step))
        assert same(one.batch(step, 2), other.batch(step, 2))
    ids = [worker.pid for worker in other.ahead.batches._workers]  # type: ignore[attr-defined]
    other.close()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in ids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{pid}").exists() for pid in ids)
    assert torch.equal(state, torch.random.get_rng_state())


class Dies(Pictures):
    def __getitem__(self, index: int) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            os._exit(3)
        return super().__getitem__(index)


def test_what_goes_wrong_in_a_process_is_a_sentence() -> None:
    broken = make_sampler(
        "epochs",
        supervised(Pictures(broken=3), lazy=True, num_outputs=2),
        HOLDINGS,
        torch.arange(3),
        keys(),
        4,
        torch.float32,
        readers=1,
    )
    with pytest.raises(
        ExperimentError, match=r"^task: item 3 of train \(picture3.png\) raises OSError: truncated \(.*"
    ):
        [broken.batch(step) for step in range(3)]
    broken.close()
    dead = make_sampler(
        "epochs",
        supervised(Dies(), lazy=True, num_outputs=2),
        HOLDINGS,
        torch.arange(3),
        keys(),
        4,
        torch.float32,
        readers=1,
    )
    with pytest.raises(ExperimentError, match=r"^runtime.readers: a process that reads samples has ended"):
        dead.batch(0)
    dead.close()


def whole(items: list[Any]) -> Tensor:
    return torch.cat([x for x, _ in items])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "own"}, "^task: an item of train differs when it is read again"),
        ({"noise": "nan"}, r"^task: sample 5 of train \(picture5.png\) holds numbers that are not a number"),
        ({"broken": 4}, r"^task: item 4 of train \(picture4.png\) raises OSError: truncated"),
        ({"collate": whole}, r"^task: the collation of 1 items of train returns a tensor of shape \(3,\), where the"),
        (
            {"collate": lambda items: items[0]},
            r"returns a tensor of shape \(3,\) in part '0', where the",
        ),
        (
            {"collate": lambda items: (torch.ones(len(items)), 7)},
            "make a value of type int in part '1', where",
        ),
        ({"collate": lambda items: 1 / 0}, r"^task: the collate of train raises ZeroDivisionError.* \(\S*test_items"),
        ({"collate": Pad(2)}, r"^task: item 0 of train \(.*0.png\) cannot be padded: .* length 3 in '0', .* to 2"),
        ({"collate": Pad(3, fills={"y": 1})}, "cannot be padded: fills name 'y', and a sample has the parts 0, 1"),
        ({"collate": Pad(3, parts=["y"])}, "cannot be padded: parts name 'y'"),
        ({"transform": lambda item, rng: None, "num_outputs": 2}, "^task: the transform of item 0 .* returns None"),
        (
            {"transform": lambda item, rng: (item[0][: 3 - int(item[1])], item[1]), "num_outputs": 2},
            r"^task: items 0 \(.*\) and 1 .*, as the transform returns them, .* \(3,\) and .* \(2,\) in part '0'; give",
        ),
        ({"transform": lambda item, rng: 1 / 0}, "^task: the transform of item 0 of train .* raises ZeroDivisionError"),
        ({"num_outputs": 1}, r"^task: the targets .* integers from 0 to 0 .* train has 1 in sample 1"),
        ({"labels": [0, 1] * 9 + [1, -3]}, "targets of train run from -3 to 1"),
        ({"columns": {"user": [1, 2]}, "num_outputs": 2}, r"column 'user' has the shape \(2,\), and train has 20"),
    ],
    ids=range(16),
)
def test_what_cannot_be_read_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        supervised(Pictures(settings.pop("noise", ""), settings.pop("broken", None)), lazy=True, **settings)


def test_classes_are_read_or_known() -> None:
    assert torch.equal(lazily().labels, Y)  # type: ignore[arg-type]
    assert lazily(num_outputs=3).labels is None
    data = Pictures()
    data.targets = Y.tolist()  # type: ignore[attr-defined]
    assert torch.equal(supervised(data, lazy=True).train.labels, Y)


class Relabelled(Pictures):
    """Keeps other classes in its attribute than some of its items have."""

    def __init__(self, label: int, *rows: int) -> None:
        super().__init__()
        self.targets, self.items = Y.tolist(), [label if row in rows else int(y) for row, y in enumerate(Y)]

    def __getitem__(self, index: int) -> Any:
        return X[index], self.items[index]


@pytest.mark.parametrize("label", [-100, 0, 2])
def test_items_have_the_classes_that_are_known(label: int) -> None:
    data, message = Relabelled(label, 1), f"sample 1 of train has the label {label}, and not 1, as the known labels say"
    with pytest.raises(ExperimentError, match=message):
        supervised(data, lazy=True, num_outputs=3)
    with pytest.raises(ValueError, match=message):
        supervised(data, lazy=False, labels=data.targets)
    later = supervised(Relabelled(label, 7), lazy=True, num_outputs=3)
    with pytest.raises(ExperimentError, match=f"sample 7 of train has the label {label}, and not 1"):
        take(later.train, torch.tensor([2, 7]), torch.tensor([0, 1]))
    for task in (supervised(data, lazy=True, labels=data.items), supervised(data, lazy=False, num_outputs=3)):
        assert task.labels.tolist() == data.items and task.ignores == (label == -100)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"the shape \(3,\), and train has 20"):
        supervised(data, lazy=True, labels=[0, 1, 0])


def unlabel(item: Any, rng: np.random.Generator) -> Any:
    return item[0], -100 if item[0][0] > 0 else item[1]


@pytest.mark.parametrize("labels", [None, Y])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_transform_may_take_labels_away(make_block: Any, engine: str, labels: Any) -> None:
    task = supervised(Pictures(), lazy=True, transform=unlabel, labels=labels, num_outputs=2)
    same_labels = supervised((X, Y.where(X[:, 0] <= 0, -100)), num_outputs=2)
    settings = {"model": "softmax", "batch_size": 4, "analysis": []}
    runtime = {"device": "cpu", "dtype": "float64"}
    found, wanted = (
        make_block(task=given, runtime={**runtime, "engine": name}, **settings)
        for given, name in ((task, engine), (same_labels, "loop"))
    )
    found.advance(4)
    wanted.advance(4)
    torch.testing.assert_close(found.x, wanted.x, rtol=1e-12, atol=1e-14)
    whole = supervised((X, Y))
    model = torch.nn.Linear(3, 2)
    assert task.evaluate(model) == pytest.approx(whole.evaluate(model), rel=1e-6)  # measured items are not transformed


@pytest.mark.parametrize(
    "items",
    [
        [(torch.ones(n + 1), torch.arange(n + 1)) for n in range(3)],
        [{"0": torch.ones(n + 1), "1": torch.arange(n + 1)} for n in range(3)],
    ],
    ids=["tuples", "mappings"],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_ragged_items_are_padded(items: list[Any], lazy: bool) -> None:
    task = supervised(items, lazy=lazy, collate=Pad(4, fills={"1": -100}), target=None, loss=lambda out, batch: out)
    x, y = leaves(take(task.train, torch.tensor([0, 2])))
    assert x.tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]] and y.tolist() == [[0, -100, -100, -100], [0, 1, 2, -100]]
    with pytest.raises(ValueError, match=r"item 2 of train .* a sample has the length 3 .* padded to 2"):
        supervised(items, lazy=False, collate=Pad(2))


@pytest.mark.parametrize("name", ["1", "labels"])
@pytest.mark.parametrize("lazy", [False, True])
def test_padding_that_the_loss_would_count_is_refused(name: str, lazy: bool) -> None:
    def items(kind: torch.dtype) -> list[Any]:
        pairs = [(torch.ones(n + 1), torch.arange(n + 1).to(kind)) for n in range(3)]
        return pairs if name == "1" else [{"x": x, name: y} for x, y in pairs]

    settings: dict[str, Any] = {"lazy": lazy, "num_outputs": 3}
    with pytest.raises(ValueError, match=rf"fill the targets with 0, .* fills=\{{'{name}': -100\}}, which does not"):
        supervised(items(torch.int64), collate=Pad(4), **settings)
    with pytest.raises(ValueError, match=rf"fills=\{{'{name}': 0\}}, and weights= of 0 there"):
        supervised(items(torch.float32), collate=Pad(4), **settings)
    supervised(items(torch.int64), collate=Pad(4), loss=lambda out, batch: out, **settings)
    for pad in (Pad(4, fills={name: -100}), Pad(4, fill=-100)):
        task = supervised(items(torch.int64), collate=pad, **settings)
        batch = in_memory(task.train)
        assert torch.equal(task.counted(batch), task.targets(batch) >= 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"x": X[0], "y": 1}, {"x": X[1], "z": 1}], "items 0 and 1 .* one has the parts x, y, and the other x, z"),
        ([(X[0], 1), (X[1], "a")], r"one has the shape \(\) and the other the type str in part '1'$"),
        ([(X[0], [1, 2]), (X[1], [3])], "one has the length 2 and the other the length 1 in part '1'; give a collate"),
    ],
)
def test_items_that_differ_are_named(items: list[Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        supervised(items)
    ragged = [(torch.ones(2, 3), 1), (torch.ones(1, 4), 0)]
    with pytest.raises(ExperimentError, match=r"items 0 and 1 .* \(2, 3\) and .* \(2, 4\) in part '0'$"):
        supervised(ragged, collate=Pad(2))


def test_what_a_killed_process_has_left_in_a_cache_is_removed(tmp_path: Path) -> None:
    def read() -> Any:
        return supervised(Pictures(), cache=tmp_path, num_outputs=2).train

    wanted = in_memory(read())
    (whole,) = (path for path in tmp_path.iterdir() if path.is_dir())
    whole.rename(tmp_path / f"{whole.name}.partial")  # as it is before it is renamed
    (tmp_path / f"{whole.name}.partial" / "left").touch()
    assert same(in_memory(read()), wanted)
    assert {path.name for path in tmp_path.iterdir()} == {whole.name, f"{whole.name}.lock"}
    assert not (whole / "left").exists()


RUN: dict[str, Any] = {
    "model": "softmax",
    "topology": {"name": "ring", "agents": 3},
    "strategy": "diffusion",
    "batch_size": 4,
    "steps": 6,
    "replicas": 1,
    "evaluate_every": 2,
    "analysis": ["hessian_trace"],
}


@pytest.mark.parametrize("settings", [{}, {"readers": 1}])
def test_a_run_is_that_in_memory(tmp_path: Path, no_reports: None, settings: dict[str, Any]) -> None:
    rows = []
    for name, lazy in (("memory", False), ("lazy", True)):
        task = supervised(Pictures(), Pictures(), lazy=lazy)
        runtime = {"device": "cpu", "engine": "loop", **(settings if lazy else {})}
        found = basinet.run(task=task, **RUN, runtime=runtime, out=tmp_path / name, quiet=True)
        rows.append((found.runs[0].metrics, found.summary()[0]["hessian_trace_mean"]))
    assert rows[0][0] == rows[1][0]
    assert rows[0][1] == rows[1][1] > 0


def test_what_goes_wrong_in_a_run_is_its_sentence(tmp_path: Path, no_reports: None) -> None:
    task = supervised(Pictures(broken=7), lazy=True, num_outputs=2)
    with pytest.raises(basinet.RunFailed):
        basinet.run(task=task, **{**RUN, "analysis": []}, runtime={"device": "cpu"}, out=tmp_path, quiet=True)
    (run,) = load_runs(tmp_path)
    assert run.status["error"].startswith("task: item 7 of train (picture7.png) raises OSError: truncated (")


def test_a_block_continues_where_another_was(make_block: Any) -> None:
    keys = {**RUN, "task": supervised(Pictures("torch"), lazy=True, transform=jitter, num_outputs=2), "analysis": []}
    runtime = {"device": "cpu", "engine": "loop"}
    whole, first, second = (make_block(**keys, runtime={**runtime, "readers": n}) for n in (0, 1, 1))
    whole.advance(6)
    first.advance(3)
    second.load_state_dict(first.state_dict())
    second.advance(6)
    assert torch.equal(whole.x, second.x)
    for block in (first, second):
        block.oracle.sampler.close()


def test_groups_are_dealt_out_and_shown(tmp_path: Path, no_reports: None) -> None:
    users = ["ann", "bo", "cy", "di", "ed"] * 4
    task = supervised(Pictures(), lazy=True, labels=Y, columns={"user": users})
    partition = {"name": "by_column", "column": "user"}
    keys = {**RUN, "analysis": [], "task": {"name": task, "partition": partition}}
    found = basinet.run(**keys, runtime={"device": "cpu"}, out=tmp_path, quiet=True)
    rows = load_partition(found.runs[0])
    assert {(row["user"], row["label"]): row["samples"] for row in rows} == {
        (user, str(label)): 2 for user in users for label in (0, 1)
    }
    assert sorted(len({row["user"] for row in rows if row["agent"] == agent}) for agent in range(3)) == [1, 2, 2]
    ax = plot_partition(rows, ax=Figure().subplots())
    assert [text.get_text() for text in ax.get_xticklabels()] == users[:5] and ax.get_xlabel() == "user"
    assert ax.images[0].get_array().sum(0).tolist() == [4] * 5


def test_an_analysis_of_large_data_takes_a_subset(make_setup: Any, caplog: Any) -> None:
    task = supervised(Large(40), lazy=True)
    setup = make_setup(task=task, model="softmax", analysis=[], analysis_memory=4, runtime={"device": "cpu"})
    assert samples_used(setup) == (4 << 20) // (50_000 * 8 + 8) == analysis_settings(setup)["analysis_samples"]
    context = AnalysisContext(setup)
    assert length(context.data) == length(context.sampled.train) == 10 and length(context.task.train) == 40
    assert "the 40 samples do not fit into analysis_memory (4 MiB), so 10 of them are measured" in caplog.text
    assert samples_used(make_setup(task=supervised(Pictures(), lazy=True), model="softmax", analysis=[])) is None


class Large(Dataset[Any]):
    def __init__(self, count: int) -> None:
        self.targets = [index % 2 for index in range(count)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        return torch.full((50_000,), float(index % 7)), self.targets[index]


def train_on_large(out: str) -> None:
    used = []
    for count in (8, 2000):  # the first run takes what imports and the model need
        task, name = supervised(Large(count), lazy=True), f"{out}/{count}"
        keys = {**RUN, "analysis": [], "steps": 4, "evaluate_every": 4}
        basinet.run(task=task, **keys, runtime={"device": "cpu"}, out=name, quiet=True)
        used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    print(2000 * 50_000 * 4 // 1024, used[1] - used[0])


def test_data_of_ten_times_the_memory(processes: Processes, tmp_path: Path) -> None:
    processes.start(train_on_large, str(tmp_path))
    _, [(out, err)] = processes.end()
    assert out, err
    total, used = map(int, out.split()[-2:])
    assert total > 10 * used, err


class Unequal(Dataset[Any]):
    is_uniform = False

    def __len__(self) -> int:
        return 3

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return torch.full((1, row + 1, 2), 1.0 + row), torch.full((1, 1), 2.0 * row)


@pytest.mark.parametrize("lazy", [False, True])
def test_evaluations_may_measure_a_part_of_the_training_samples(lazy: bool) -> None:
    task = replace(supervised([*zip(X, Y, strict=True)], num_outputs=2, lazy=lazy), evaluated_samples=7)
    model = torch.nn.Linear(3, 2)
    mine = in_memory(task.evaluated)
    assert len(mine[0].unique(dim=0)) == 7 and all((row == X).all(1).any() for row in mine[0])
    assert task.evaluate(model)["train_loss"] == pytest.approx(task.objective(model, mine).item(), abs=1e-6)
    assert "evaluated on 7 of the 20 training samples" in task.about_loss


def test_items_that_differ_in_shape_are_measured_one_by_one() -> None:
    data = Items(source=Unequal())
    task = OwnLoss(
        train=data,
        num_outputs=1,
        classification=False,
        loss_function=lambda outputs, batch: (outputs - batch[1][..., None]).square().mean((1, 2, 3)),
    )
    task.check()
    found = task.evaluate(torch.nn.AdaptiveAvgPool2d(1))
    assert found["train_loss"] == sum((1 + row - 2 * row) ** 2 for row in range(3)) / 3
