"""What models and losses keep from pass to pass: in buffers, or the run is refused."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import Task, supervised

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()

passes = 0


class Model(nn.Module):
    """Calls a function in its passes, with itself."""

    calls = 0

    def __init__(self, each_pass: Callable[[Any], object], **kept: Any) -> None:
        super().__init__()
        self.head, self.drop, self.each_pass = nn.Linear(4, 2), nn.Dropout(0.25), each_pass
        self.register_buffer("seen", torch.zeros(()))
        vars(self).update(kept)

    def forward(self, x: Tensor) -> Tensor:
        self.each_pass(self)
        return self.head(self.drop(x))


class Counter:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *given: Any) -> Tensor:
        self.count += 1
        return torch.zeros(())


def counted(model: Any) -> None:
    model.n = getattr(model, "n", 0) + 1


def everywhere(model: Any) -> None:
    global passes
    passes += 1


def of_class(model: Any) -> None:
    Model.calls += 1


def averaged(model: Any) -> None:
    model.mean = 0.9 * model.mean + 0.1


def closure() -> Callable[[Any], object]:
    n = 0

    def count(model: Any) -> None:
        nonlocal n
        n += 1

    return count


REFUSED: dict[str, tuple[Callable[[], Model], str]] = {
    "attribute": (lambda: Model(counted), "n"),
    "layer": (lambda: Model(lambda model: counted(model.head)), "head.n"),
    "module variable": (lambda: Model(everywhere), "each_pass.passes"),
    "class": (lambda: Model(of_class), "Model.calls"),
    "closure": (lambda: Model(closure()), "each_pass.n"),
    "object": (lambda: Model(Counter()), "each_pass.count"),
    "namespace": (
        lambda: Model(lambda m: vars(m.args).update(t=m.args.t + 1), args=SimpleNamespace(t=0)),
        "args.t",
    ),
    "list": (lambda: Model(lambda m: m.log.append(0), log=[]), "log"),
    "mapping": (lambda: Model(lambda m: m.log.update(n=m.log["n"] + 1), log={"n": 0}), "log.n"),
    "tensor": (lambda: Model(lambda m: m.t.add_(1), t=torch.zeros(3)), "t"),
    "array": (lambda: Model(lambda m: np.add(m.t, 1, out=m.t), t=np.zeros(3)), "t"),
    "empty tensors": (
        lambda: Model(lambda m: setattr(m, "t", m.t.new_zeros(len(m.t) + 1, 0)), t=torch.zeros(0, 0)),
        "t",
    ),
    "average": (lambda: Model(averaged, mean=torch.full((2,), 2.0, dtype=torch.float64)), "mean"),
    "counter": (lambda: Model(lambda m: next(m.steps), steps=itertools.count()), "steps"),
    "iterator": (lambda: Model(lambda m: next(m.steps), steps=iter([0.0] * 99)), "steps"),
    "random": (lambda: Model(lambda m: m.rng.random(), rng=random.Random(0)), "rng"),
    "numpy": (lambda: Model(lambda m: m.rng.random(), rng=np.random.default_rng(0)), "rng"),
    "torch": (lambda: Model(lambda m: torch.rand(2, generator=m.rng), rng=torch.Generator()), "rng"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_changes_with_every_pass_is_refused(make_setup: Any, name: str) -> None:
    make, path = REFUSED[name]
    with pytest.raises(ExperimentError, match=rf"^model: '(.*\.)?{path}' changes with every pass, .*register_buffer"):
        make_setup(task=supervised((X, Y)), model=make())


def remember(model: Any) -> None:
    if not hasattr(model, "mask"):
        model.mask, model.cache = torch.ones(3), {}
    model.cache["size"] = model.cache.get("size", 7)
    model.others = (
        torch.ones(()).expand(1),
        torch.ones(2).bfloat16(),
        (1j * torch.ones(2)).conj(),
        torch.eye(2).to_sparse(),
    )
    model.last, model.biggest, model.pair = model.head.weight * 2, model.head.weight.abs().max(), [model.seen + 1]


@pytest.mark.parametrize(
    "each_pass",
    [
        lambda model: None,
        remember,
        lambda model: model.seen.add_(1),
        lambda model: setattr(model, "rate", float(model.seen.add_(1))),
        lambda model: setattr(model, "n", min(2, getattr(model, "n", 0) + 1)),
    ],
    ids=["nothing", "results and constants", "buffer", "a function of a buffer", "settles"],
)
def test_what_is_the_same_after_each_pass_is_allowed(make_setup: Any, each_pass: Any) -> None:
    make_setup(task=supervised((X, Y)), model=Model(each_pass))


def entropy(outputs: Tensor, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(outputs, batch[1], reduction="none")


def attribute(outputs: Tensor, batch: Any) -> Tensor:
    attribute.n = getattr(attribute, "n", 0) + 1  # type: ignore[attr-defined]
    return entropy(outputs, batch)


def default(outputs: Tensor, batch: Any, kept: list[int] = [0]) -> Tensor:  # noqa: B006
    kept[0] += 1
    return entropy(outputs, batch)


class Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = Counter()

    def forward(self, outputs: Tensor, batch: Any) -> Tensor:
        return entropy(outputs, batch) + self.count()


@dataclass(frozen=True, kw_only=True)
class OwnTask(Task):
    counter: Counter

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return super().loss(outputs, batch) + self.counter()


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: supervised((X, Y), loss=attribute), "loss_function.n"),
        (lambda: supervised((X, Y), loss=default), "loss_function.__defaults__.0.0"),
        (lambda: supervised((X, Y), loss=Loss()), "loss_function.count.count"),
        (lambda: supervised((X, Y), loss=Loss().forward), "loss_function.__self__.count.count"),
        (
            lambda: supervised((X, Y), weights=(lambda c: lambda batch: c() + torch.ones(len(batch[0])))(Counter())),
            "weights_function.c.count",
        ),
        (lambda: OwnTask(train=(X, Y), num_outputs=2, counter=Counter()), "counter.count"),
    ],
    ids=["attribute", "default", "module", "method", "weights", "task"],
)
def test_losses_that_change_with_every_pass_are_refused(make_setup: Any, make: Any, path: str) -> None:
    with pytest.raises(ExperimentError, match=f"^task: '{path}' changes with every pass"):
        make_setup(task=make(), model=nn.Linear(4, 2))
