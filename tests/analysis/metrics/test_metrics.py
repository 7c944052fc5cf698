"""Metrics against scikit-learn and scipy, over chunks of unequal sizes, with weights and ignored labels."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from torch import Tensor, nn

from basinet.analysis.metrics import METRICS, SampleMean
from basinet.sim.evaluation.metric import Metric
from basinet.sim.tasks import IGNORED, LanguageModel, Regression, Task, logistic, supervised
from basinet.sim.tasks.language.tokens import Tokens, train_bpe
from basinet.sim.tasks.losses import SquaredError
from basinet.sim.vision.fidelity import SCORES

F64 = torch.float64
N, C, K = 53, 4, 3
SIZES = (7, 16, 100)
"""Chunks: the last one is smaller than the others, or alone."""


@dataclass(frozen=True, kw_only=True)
class Weighted(Task):
    """Samples that count differently; the last column of the inputs says how much."""

    def weights(self, batch):
        return batch[0][..., -1].abs().where(batch[1] != IGNORED, 0)


@dataclass(frozen=True, kw_only=True)
class WeightedRegression(Regression):
    """The same for numbers."""

    def weights(self, batch):
        return batch[0][..., -1].abs()


class Given(nn.Module):
    """Outputs that are part of the inputs."""

    def __init__(self, columns):
        super().__init__()
        self.columns = columns

    def forward(self, x):
        return x[..., : self.columns].clone()


def drawn(columns=C, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, columns + 1, generator=generator, dtype=F64), generator


def classes(kind=Task, ignored=False):
    """A classification, its test scores, targets and weights. Class 3 has no target."""
    inputs, generator = drawn()
    targets = torch.randint(0, 3, (N,), generator=generator)
    if ignored:
        targets[::5] = IGNORED
    data = inputs, targets
    task = kind(train=data, test=data, num_outputs=C)
    weights = inputs[:, -1].abs() if kind is Weighted else (targets != IGNORED).double()
    kept = weights.numpy() * (targets != IGNORED).numpy()
    return task, inputs[:, :C].softmax(-1).numpy(), targets.clamp(min=0).numpy(), kept


def measure(task, name, model, chunk, **settings):
    task = replace(task, metrics=(METRICS[name](**settings),))
    (value,) = (v for n, v in task.evaluate(model, chunk=chunk).items() if n not in LOSSES)
    return value


LOSSES = ("train_loss", "test_loss", "generalization_gap")


def ovr(score, p, y, w):
    found = []
    for c in range(C):
        if 0 < w[y == c].sum() < w.sum():
            found.append(score(y == c, p[:, c], sample_weight=w))
    return np.mean(found)


def calibration_error(p, y, w, bins=15):
    top, right = p.max(1), p.argmax(1) == y
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in pairwise(edges):
        inside = (top > low) & (top <= high)
        total += abs((w * right)[inside].sum() - (w * top)[inside].sum())
    return total / w.sum()


OF_CLASSES = {
    "accuracy": (lambda p, y, w: sk.accuracy_score(y, p.argmax(1), sample_weight=w), {}),
    "balanced_accuracy": (lambda p, y, w: sk.balanced_accuracy_score(y, p.argmax(1), sample_weight=w), {}),
    "topk": (lambda p, y, w: sk.top_k_accuracy_score(y, p, k=2, labels=range(C), sample_weight=w), {"k": 2}),
    "nll": (lambda p, y, w: sk.log_loss(y, p, labels=range(C), sample_weight=w), {}),
    "perplexity": (lambda p, y, w: math.exp(sk.log_loss(y, p, labels=range(C), sample_weight=w)), {}),
    "bits_per_element": (lambda p, y, w: sk.log_loss(y, p, labels=range(C), sample_weight=w) / math.log(2), {}),
    "iou_mean": (lambda p, y, w: sk.jaccard_score(y, p.argmax(1), average="macro", sample_weight=w), {}),
    "auroc": (lambda p, y, w: ovr(sk.roc_auc_score, p, y, w), {}),
    "average_precision": (lambda p, y, w: ovr(sk.average_precision_score, p, y, w), {}),
    "ece": (calibration_error, {}),
    **{
        f"f1_{average}": (
            lambda p, y, w, average=average: sk.f1_score(y, p.argmax(1), average=average, sample_weight=w),
            {},
        )
        for average in ("macro", "micro", "weighted")
    },
    **{
        f"{name} {average}": (
            lambda p, y, w, average=average, score=score: score(
                y, p.argmax(1), average=average, sample_weight=w, zero_division=0
            ),
            {"average": average},
        )
        for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score))
        for average in ("macro", "micro", "weighted")
    },
}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("data", ["plain", "ignored", "weighted", "both"])
@pytest.mark.parametrize("case", OF_CLASSES)
def test_metrics_of_classes_are_those_of_scikit_learn(case, data):
    wanted, settings = OF_CLASSES[case]
    task, p, y, w = classes(Weighted if data in ("weighted", "both") else Task, ignored=data in ("ignored", "both"))
    kept = w > 0
    expected = wanted(p[kept], y[kept], w[kept])
    for size in SIZES:
        assert measure(task, case.split()[0], Given(C), size, **settings) == pytest.approx(expected, rel=1e-12)


OF_NUMBERS = {
    "mse": sk.mean_squared_error,
    "rmse": lambda y, f, sample_weight: math.sqrt(sk.mean_squared_error(y, f, sample_weight=sample_weight)),
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "pearson": lambda y, f, sample_weight: np.mean(
        [np.cov(y[:, k], f[:, k], aweights=sample_weight)[0, 1]
         / math.sqrt(np.cov(y[:, k], aweights=sample_weight) * np.cov(f[:, k], aweights=sample_weight))
         for k in range(K)]
    ),
    "spearman": lambda y, f, sample_weight: np.mean([stats.spearmanr(y[:, k], f[:, k]).statistic for k in range(K)]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "weighted"),
    [(name, weighted) for name in OF_NUMBERS for weighted in (False, True) if (name, weighted) != ("spearman", True)],
)
def test_metrics_of_numbers_are_those_of_scikit_learn_and_scipy(name, weighted):
    inputs, generator = drawn(K)
    inputs[:, :K] = (4 * inputs[:, :K]).round() / 4  # with ties
    targets = (inputs[:, :K] + torch.randn(N, K, generator=generator, dtype=F64)).round()
    data = inputs, targets
    task = (WeightedRegression if weighted else Regression)(train=data, test=data, num_outputs=K)
    w = inputs[:, -1].abs().numpy() if weighted else np.ones(N)
    expected = OF_NUMBERS[name](targets.numpy(), inputs[:, :K].numpy(), sample_weight=w)
    for size in SIZES:
        assert measure(task, name, Given(K), size) == pytest.approx(expected, rel=1e-12)


OF_LABELS = {
    "exact_match": lambda y, f: sk.accuracy_score(y, f > 0),
    "hamming": lambda y, f: sk.hamming_loss(y, f > 0),
    "f1_macro": lambda y, f: sk.f1_score(y, f > 0, average="macro"),
    "f1_micro": lambda y, f: sk.f1_score(y, f > 0, average="micro"),
    "auroc": lambda y, f: sk.roc_auc_score(y, f),
    "average_precision": lambda y, f: sk.average_precision_score(y, f),
}


@pytest.mark.parametrize("name", OF_LABELS)
def test_metrics_of_several_labels_are_those_of_scikit_learn(name):
    inputs, generator = drawn(K)
    targets = torch.randint(0, 2, (N, K), generator=generator).double()
    task = Regression(train=(inputs, targets), test=(inputs, targets), num_outputs=K)
    expected = OF_LABELS[name](targets.long().numpy(), inputs[:, :K].numpy())
    for size in SIZES:
        assert measure(task, name, Given(K), size) == pytest.approx(expected, rel=1e-12)
    task = Regression(train=(inputs, targets), test=(inputs, 2 * targets), num_outputs=K)
    with pytest.raises(ValueError, match=f"{name} needs targets that are classes, or 0 or 1"):
        measure(task, name, Given(K), 100)


def test_every_metric_is_compared():
    elsewhere = {"bits_per_byte", "challenge_score", "srocc", "plcc", "rank_nonsource", "rank_source"}
    elsewhere |= {*SCORES, "krocc", "plcc_fitted", "phase_accuracy", "phase_f1", "detail_r2"}
    assert {*METRICS} == {case.split()[0] for case in (*OF_CLASSES, *OF_NUMBERS, *OF_LABELS)} | elsewhere


@dataclass(frozen=True, kw_only=True)
class Text(Weighted):
    """Tokens of several bytes, some of which count differently."""

    tokens: Tokens


@pytest.mark.parametrize("kind", [Text, LanguageModel])
def test_bits_per_byte_are_the_nats_of_all_tokens_by_their_bytes(kind):
    tokens = train_bpe(["one two three one two one "] * 4, 264)
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(0, tokens.size, (N, 5), generator=generator)
    scores = torch.randn(N, 5, tokens.size + 1, generator=generator, dtype=F64)
    if kind is Text:
        targets[:4, 2] = IGNORED
    task = kind(train=(scores, targets), test=(scores, targets), num_outputs=tokens.size, tokens=tokens)
    kept = targets != IGNORED
    weights = scores[..., -1].abs()[kept].numpy() if kind is Text else np.ones(kept.sum())
    p, y = scores[..., :-1].log_softmax(-1)[kept].numpy(), targets[kept].numpy()
    lengths = tokens.lengths.numpy()[y]
    assert {0, 1, 3} <= {*lengths.tolist()}
    wanted = -(weights * p[np.arange(len(y)), y]).sum() / (weights * lengths).sum() / math.log(2)
    for size in SIZES:
        assert measure(task, "bits_per_byte", Given(tokens.size), size) == pytest.approx(wanted, rel=1e-12)
    with pytest.raises(ValueError, match="bits_per_byte needs tokens that stand for bytes, as those of language_model"):
        measure(classes()[0], "bits_per_byte", Given(C), 8)


def test_two_classes_from_one_output_or_two():
    one = logistic(samples=50, test_samples=40, dimension=3)
    z = one.test[0][:, :1]
    two = Task(train=one.train, test=(torch.cat([torch.zeros_like(z), z], 1), one.test[1]), num_outputs=2)
    for name in ("accuracy", "auroc", "average_precision", "nll", "ece", "f1_macro"):
        assert measure(one, name, Given(1), 16) == pytest.approx(measure(two, name, Given(2), 16), rel=1e-12)
    assert measure(one, "auroc", Given(1), 16) == pytest.approx(sk.roc_auc_score(one.test[1], z[:, 0]), rel=1e-12)


def test_classes_of_each_pixel():
    scores = torch.randn(6, 5, 4, C, generator=torch.Generator().manual_seed(1), dtype=F64)
    targets = torch.randint(0, C, (6, 5, 4), generator=torch.Generator().manual_seed(2))
    targets[0, :2] = IGNORED
    task = Task(train=(scores, targets), test=(scores, targets), num_outputs=C)
    kept = targets != IGNORED
    expected = sk.jaccard_score(targets[kept], scores.argmax(-1)[kept], average="macro")
    for chunk in (1, 4):
        assert measure(task, "iou_mean", nn.Identity(), chunk) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["auroc", "average_precision", "r2", "pearson", "spearman"])
def test_what_is_undefined_is_not_a_number(name):
    x = torch.ones(3, 1, dtype=F64)
    task = supervised((x, x)) if name in OF_NUMBERS else Task(train=(x, x[:, 0].long() * 0), num_outputs=1)
    task = replace(task, test=task.train)
    assert math.isnan(measure(task, name, Given(1), 2))


class Writes(Metric):
    """Doubles the outputs in place."""

    def reset(self):
        self.seen = []

    def update(self, outputs, batch, task):
        outputs.mul_(2)
        self.seen.append(outputs.sum())

    def compute(self):
        return sum(self.seen)


class LargestTarget(SampleMean):
    """The mean target."""

    def values(self, outputs, batch, task):
        return task.targets(batch)


def test_metrics_are_on_the_asked_data_and_do_not_see_what_others_write():
    task, *_ = classes()
    usual = METRICS["accuracy"]()
    before = replace(task, metrics=(usual,)).evaluate(Given(C))
    task = replace(task, metrics=(Writes(), LargestTarget(), usual), metrics_on=("train", "test"))
    found = task.evaluate(Given(C), chunk=10)
    assert found["test_accuracy"] == found["train_accuracy"] == pytest.approx(before["test_accuracy"], rel=1e-12)
    assert found["train_largest_target"] == pytest.approx(float(task.train[1].double().mean()))
    assert found["train_writes"] == pytest.approx(2 * float(task.train[0][:, :C].sum()))
    assert not hasattr(usual, "_parts")  # each evaluation has its own


# Trivial baselines


def test_the_majority_class_is_the_constant_of_the_smallest_loss():
    y = torch.tensor([0, 0, 0, 1, 2, IGNORED, 0])
    task = Task(train=(torch.zeros(7, 2), y), test=(torch.zeros(3, 2), torch.tensor([0, 1, 1])), num_outputs=3)
    ((name, found),) = task.baselines().items()
    frequencies = torch.tensor([4, 1, 1], dtype=F64) / 6
    assert name == "majority class"
    assert found["train_loss"] == pytest.approx(float(-(frequencies * frequencies.log()).sum()))
    assert found["test_loss"] == pytest.approx(float(-(frequencies[[0, 1, 1]].log().mean())))
    assert found["test_accuracy"] == pytest.approx(1 / 3)
    square = SquaredError(train=task.train, test=task.test, num_outputs=3).baselines()[name]
    assert square["train_loss"] == pytest.approx(float(1 - frequencies.square().sum()) / 2)
    one = logistic(samples=50, dimension=2)
    share = one.train[1].double().mean()
    entropy = float(-(share * share.log() + (1 - share) * (1 - share).log()))
    assert one.baselines()[name]["train_loss"] == pytest.approx(entropy)


def test_the_mean_target_is_the_baseline_of_a_regression():
    x, y = drawn(1)[0], torch.arange(2.0 * N, dtype=F64).view(N, 2) ** 1.5
    task = replace(supervised((x[:40], y[:40]), (x[40:], y[40:])), metrics=(METRICS["r2"](), METRICS["mae"]()))
    found = task.baselines()["mean target"]
    mean = y[:40].mean(0)
    assert found["train_loss"] == pytest.approx(float(y[:40].var(0, correction=0).mean()))
    assert found["test_mae"] == pytest.approx(float((y[40:] - mean).abs().mean()))
    assert found["test_r2"] == pytest.approx(sk.r2_score(y[40:], mean.expand(N - 40, 2)))


def test_tasks_without_a_constant_prediction_have_no_baseline():
    class Own(Task):
        def loss(self, outputs, batch):
            return outputs["first"].sum(1)

    class Objective(Task):
        def objective(self, model, batch):
            return model(batch[0]).sum()

    data = torch.zeros(4, 2), torch.tensor([0, 1, 1, 0])
    assert Own(train=data, num_outputs=2).baselines() == {}
    assert Objective(train=data, num_outputs=2).baselines() == {}


class Fraction(nn.Module):
    """A metric with the interface of torchmetrics, which would sum over all processes if they are connected."""

    higher_is_better = True

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = threshold
        self.distributed_available_fn = lambda: True
        self.reset()

    def reset(self):
        self.sure = self.count = 0

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.sure += (preds.gather(1, target[:, None]) > self.threshold).sum()
        self.count += len(target)

    def compute(self):
        assert not self.distributed_available_fn()
        return self.sure / self.count


def test_an_object_with_the_interface_of_torchmetrics():
    task, p, y, w = classes(ignored=True)
    task = replace(task, metrics=(Fraction(0.3),))
    kept = w > 0
    expected = (p[kept][np.arange(kept.sum()), y[kept]] > 0.3).mean()
    for size in SIZES:
        assert task.evaluate(Given(C), chunk=size)["test_fraction"] == pytest.approx(expected)
    weighted = replace(classes(Weighted)[0], metrics=(Fraction(),))
    with pytest.raises(ValueError, match="fraction cannot weight samples"):
        weighted.evaluate(Given(C))
