"""The numbers of the challenge on video quality, against scipy and loops over pairs."""

import logging
import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import nn

from basinet.analysis.metrics import METRICS, default_metrics
from basinet.sim.evaluation.baselines import constant_baselines
from basinet.sim.tasks import Regression, VideoQuality
from basinet.sim.tasks.vision.videos.video_quality import Reading

N = 23
NAMES = ["challenge_score", "srocc", "plcc", "rank_nonsource", "rank_source"]


def made(kind=VideoQuality, **changes):
    """A task whose inputs are predictions, with ties."""
    generator = torch.Generator().manual_seed(5)
    truth = (3 + torch.randn(N, 1, generator=generator, dtype=torch.float64)).clamp(1, 5)
    predicted = ((truth + torch.randn(N, 1, generator=generator, dtype=torch.float64)) * 2).round() / 2
    first, second = torch.randint(N, (2, 40), generator=generator)
    pairs = torch.stack([first, second, torch.where(truth[first, 0] > truth[second, 0], 1, 2)], 1)[first != second]
    known = {"nonsource": pairs[:20], "source": pairs[20:]}
    kept = torch.zeros(4, 1, dtype=torch.float64), torch.full((4, 1), 3.0, dtype=torch.float64)
    reading = Reading(frames=2, fragments=None, key_frames=1)
    settings = {
        "reading": reading,
        "train": kept,
        "test": (predicted, truth),
        "names": tuple(map(str, range(N))),
        "pairs": known,
    }
    return kind(**{"num_outputs": 1, "model": "linear", **settings, **changes})


def accuracy(values, pairs):
    """Compare pairs one by one, as the official script does."""
    right = 0
    for first, second, better in pairs.tolist():
        right += (1 if values[first] >= values[second] else 2) == better
    return right / len(pairs)


@pytest.mark.parametrize("chunk", [4, 5, 100])
def test_numbers_are_those_of_scipy_and_of_a_loop(chunk):
    task = made()
    x, y = (part[:, 0].numpy() for part in task.test)
    ranks = {f"rank_{kind}": accuracy(x, task.pairs[kind]) for kind in ("nonsource", "source")}
    wanted = {"srocc": stats.spearmanr(x, y).statistic, "plcc": stats.pearsonr(x, y).statistic, **ranks}
    wanted["challenge_score"] = 0.45 * (wanted["srocc"] + wanted["plcc"]) + 0.05 * sum(ranks.values())
    found = task.evaluate(nn.Identity(), chunk=chunk)
    assert list(found)[-5:] == [f"test_{name}" for name in NAMES]
    for name, value in wanted.items():
        assert found[f"test_{name}"] == pytest.approx(value, rel=1e-12)


class Whole(VideoQuality):
    """The same with a loss of whole batches."""

    def loss(self, outputs, batch):
        return super().loss(outputs, batch).mean()


def test_the_loss_of_whole_batches_leaves_the_scores_as_they_are():
    found = [
        task.evaluate(nn.Identity(), chunk=7)
        for task in (made(), made(kind=Whole, mean_over="batch", measured_batch=5))
    ]
    plain, whole = ([values[f"test_{name}"] for name in NAMES] for values in found)
    assert plain == whole


def test_only_what_the_pairs_allow_is_measured():
    def names(task):
        return [metric.name for metric in default_metrics(task)]

    task = made()
    assert names(task) == NAMES
    assert names(replace(task, pairs={})) == ["srocc", "plcc"]
    assert names(replace(task, pairs={**task.pairs, "source": task.pairs["source"][:0]})) == [
        "srocc", "plcc", "rank_nonsource",
    ]  # fmt: skip
    assert names(Regression(train=task.train, num_outputs=1)) == []


def test_a_constant_prediction_scores_nothing_and_is_named_once(caplog):
    task = made()
    with caplog.at_level(logging.WARNING, "basinet.analysis.metrics"):
        trivial = constant_baselines(task)["mean target"]
        assert not caplog.records  # it is meant to be constant
        found = [task.evaluate(lambda x: 0 * x + 3.0) for _ in range(2)]
    ties = {kind: float((task.pairs[kind][:, 2] == 1).double().mean()) for kind in task.pairs}
    for values in (trivial, *found):
        assert values["test_srocc"] == values["test_plcc"] == 0
        assert values["test_challenge_score"] == pytest.approx(0.05 * sum(ties.values()), rel=1e-12)
    (record,) = caplog.records
    assert f"rates all {N} samples alike, so that correlations count as 0" in record.getMessage()


def test_predictions_that_are_no_numbers_have_no_score():
    found = made().evaluate(lambda x: x * math.nan)
    assert all(math.isnan(found[f"test_{name}"]) for name in NAMES)


@pytest.mark.parametrize(
    ("name", "changes", "wrong"),
    [
        ("srocc", {}, "srocc needs a task of mean opinion scores"),
        ("rank_source", {"pairs": {}}, "rank_source needs source pairs of test videos, and the task knows none"),
        ("challenge_score", {"metrics_on": ("train", "test")}, r"allowed is metrics_on: \[test\]"),
    ],
)
def test_metrics_refuse_what_they_cannot_measure(name, changes, wrong):
    task = made(**changes)
    if not changes:
        task = Regression(train=task.train, test=task.test, num_outputs=1)
    with pytest.raises(ValueError, match=wrong):
        replace(task, metrics=(METRICS[name](),)).evaluate(nn.Identity())


@pytest.mark.parametrize("name", NAMES)
def test_headings_say_what_is_measured(name):
    quantity = METRICS[name]().quantity("test")
    assert quantity.direction == "larger" and quantity.linear
    assert quantity.label.startswith("test ") and quantity.heading.startswith("test ")
    assert ("constant" in quantity.about or "equal" in quantity.about) or name == "challenge_score"
