"""Validation: which training samples are held out, and that nothing else of a task changes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from basinet.sim.data.streams import Stream
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import TASKS, Task, supervised
from basinet.sim.tasks.vision.procedures.video_language import VideoLanguage
from basinet.sim.tasks.vision.quality.quality_pretraining import QualityPretraining
from basinet.sim.tasks.vision.restoration.super_resolution import SuperResolution


@dataclass(frozen=True, kw_only=True)
class Photos(Task):
    keeps_apart: ClassVar[tuple[str, ...]] = ("photo", "series")


def numbered(labels, kind=Task, **columns):
    """A task whose inputs are the numbers of its samples, with test data that are not to be looked at."""
    data = torch.arange(len(labels), dtype=torch.float64)[:, None], torch.as_tensor(labels)
    test = torch.full((3, 1), torch.nan, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    return kind(train=data, test=test, num_outputs=9, columns={k: np.array(v) for k, v in columns.items()})


def rows(data):
    return [int(number) for number in data[0][:, 0]]


def test_each_class_has_its_share_held_out_and_single_samples_stay():
    labels = [0] * 10 + [1] * 21 + [2]
    task = numbered(labels, number=range(32))
    found = task.hold_out(0.2, seed=3)
    held, kept = rows(found.test), rows(found.train)
    assert sorted(held + kept) == list(range(32)) and kept == sorted(kept)
    assert [sum(labels[row] == label for row in held) for label in (0, 1, 2)] == [2, 4, 0]
    assert found.columns["number"].tolist() == kept and found.labels.tolist() == [labels[row] for row in kept]
    assert rows(task.hold_out(0.2, seed=3).test) == held != rows(task.hold_out(0.2, seed=4).test)
    assert "tested on 6 training samples held out for validation" in found.about_loss


def test_a_large_share_leaves_some_of_each_class_and_of_the_groups():
    found = numbered([0] * 2 + [1] * 8).hold_out(0.95, seed=0)
    assert found.labels.tolist() == [0, 1] and len(rows(found.test)) == 8
    photo = [0] * 2 + [1] * 2
    found = numbered([0, 1] * 2, Photos, photo=photo).hold_out(0.95, seed=0)
    assert len(rows(found.train)) == len(rows(found.test)) == 2


def test_samples_without_classes_are_held_out_at_random():
    task = supervised((torch.arange(20.0)[:, None], torch.rand(20, 1))).hold_out(0.25, 0)
    assert len(rows(task.test)) == 5 and sorted(rows(task.test) + rows(task.train)) == list(range(20))


@pytest.mark.parametrize("share, most", [(0.01, 4), (0.3, 8), (0.9, 20)])
def test_samples_that_belong_together_stay_together(share, most):
    photo = [number % 6 for number in range(24)]
    task = numbered([0, 1] * 12, Photos, photo=photo).hold_out(share, 0)
    held = {photo[row] for row in rows(task.test)}
    assert not held & {photo[row] for row in rows(task.train)} and len(rows(task.test)) == most
    assert task.columns["photo"].tolist() == [photo[row] for row in rows(task.train)]


def test_of_a_single_group_the_end_is_held_out():
    task = numbered([0, 1] * 5, Photos, photo=["one"] * 10)
    assert rows(task.hold_out(0.3, 0).test) == [7, 8, 9]


@pytest.mark.parametrize("channels", ["separate", "together"])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_windows_of_a_series_are_held_out_at_its_end_and_share_no_target(tmp_path, channels, stride):
    lines = [f"2020-{1 + day // 28:02}-{1 + day % 28:02},{day},{1000 + day}" for day in range(300)]
    (tmp_path / "days.csv").write_text("\n".join(["date,a,b", *lines]))
    make = TASKS["forecast"]
    task = make(
        path=str(tmp_path / "days.csv"), inputs=6, horizon=4, stride=stride, channels=channels, standardize=False
    )
    found = task.hold_out(0.2, 0)
    known, asked = (found.train[1][..., 0] % 1000).max(), (found.test[1][..., 0] % 1000).min()
    assert 0 < asked - known <= stride  # no day is lost between them
    assert torch.equal(found.train[0], task.train[0][: len(found.train[0])])
    assert torch.equal(found.test[0], task.train[0][-len(found.test[0]) :])
    assert len(found.times) == (found.test[1] % 1000).max() - (found.test[0] % 1000).min() + 1


def test_what_generates_its_samples_is_judged_by_its_exact_loss():
    task = TASKS["quadratic"](seed=0, num_agents=2)
    assert task.hold_out(0.2, 0).test is None and torch.equal(task.hold_out(0.2, 0).train[0], task.train[0])


class Own(Task):
    def evaluate(self, model, *, chunk=4096):
        return {"train_loss": 0.0}


def a_stream():
    items = [(torch.zeros(1), 0), (torch.ones(1), 1)] * 4
    return supervised(Stream(items, 4, "train"), num_outputs=2)


@pytest.mark.parametrize(
    "make, share, said",
    [
        (lambda: numbered([0] * 30 + [1] * 4), 0.05, r"none of the 4 .* of class 1; allowed are shares from 0\.12 on"),
        (lambda: supervised((torch.rand(3, 1), torch.rand(3, 1))), 0.1, "leaves all of them to train on"),
        (lambda: numbered([0, 1], Own), 0.5, "Own measures models in its own way"),
        (a_stream, 0.5, "the samples are a stream"),
    ],
)
def test_what_cannot_be_held_out_is_said(make, share, said):
    with pytest.raises(ValueError, match=said):
        make().hold_out(share, 0)


@pytest.mark.parametrize("kind", [SuperResolution, QualityPretraining, VideoLanguage])
def test_tasks_whose_tests_have_another_form_refuse(kind):
    with pytest.raises(ValueError, match=r"no training samples can be held out, since .* test"):
        kind.hold_out(None, 0.2, 0)


def test_a_run_validates_with_the_data_and_the_graph_of_another_seed():
    base = {
        "task": {"name": "logistic", "samples": 40, "dimension": 3},
        "topology": {"name": "erdos_renyi", "agents": 5, "probability": 0.6},
        "strategy": "consensus",
        "steps": 2,
        "analysis": [],
    }
    final = build_setup(Config.parse(base | {"seed": 1}), trial=False)
    search = build_setup(Config.parse(base | {"seed": 9, "validation": {"share": 0.25, "seed": 1}}), trial=False)
    assert (search.weights != final.weights).nnz == 0
    joined = torch.cat([search.task.train[0], search.task.test[0]])
    assert torch.equal(joined.sort(0).values, final.task.train[0].sort(0).values) and len(search.task.test[0]) == 10
    assert sum(map(len, search.holdings[0])) == 30
    with pytest.raises(ExperimentError, match=r"validation\.share: "):
        Config.parse(base | {"validation": 1.0})
