"""Labels of −100, which do not count: the mean is over the others, whoever takes it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from basinet.sim.agents.state import StackedState
from basinet.sim.data.spoilt_labels import SpoiltSampler
from basinet.sim.engines import ENGINES
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import IGNORED, SquaredError, Task, supervised

N, T, D, C = 26, 3, 4, 3


def labelled(*axes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw inputs and labels; of the first samples none counts, of the others about one half."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(N, *axes, D, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, C, (N, *axes), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.5] = -100
    targets[:4], targets[4], targets[20] = -100, 1, 2
    return inputs, targets


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, C)).double()


def reference(kind: type[Task], outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the mean of the labels that count, as torch does."""
    outputs, targets = outputs.flatten(0, -2), targets.flatten()
    if kind is Task:
        return nn.functional.cross_entropy(outputs, targets)
    outputs, targets = outputs[targets >= 0], targets[targets >= 0]
    return (outputs - torch.eye(C, dtype=outputs.dtype)[targets]).square().sum() / (2 * len(targets))


@pytest.mark.parametrize("kind", [Task, SquaredError])
@pytest.mark.parametrize("axes", [(), (T,)])
@pytest.mark.parametrize("engine", ENGINES)
def test_engines_average_the_labels_that_count(engine: str, axes: tuple[int, ...], kind: type[Task]) -> None:
    data, net = labelled(*axes), model()
    task = kind(train=data, num_outputs=C)
    state = StackedState(net, 3, torch.device("cpu"), torch.float64)
    state.fill(slice(None), net)
    rows = torch.tensor([range(4), range(2, 6), range(20, 24)])
    run = ENGINES[engine](net, task, state)
    batch = tuple(t[rows] for t in data)
    losses = run.gradients(batch, torch.zeros(3, dtype=torch.int64))
    assert losses[0] == 0 and not state.gradients[0].any()  # no label counts
    for agent in (1, 2):
        loss = reference(kind, net(data[0][rows[agent]]), data[1][rows[agent]])
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
        torch.testing.assert_close(losses[agent], loss.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(state.gradients[agent], gradient, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(run.losses(batch, torch.zeros(3, dtype=torch.int64)), losses, rtol=1e-12, atol=0)


@pytest.mark.parametrize("axes", [(), (T,)])
@pytest.mark.parametrize("chunk", [3, N])
@torch.no_grad()
def test_the_whole_is_measured_over_the_labels_that_count(axes: tuple[int, ...], chunk: int) -> None:
    train, test, net = labelled(*axes), labelled(*axes, seed=1), model()
    found = Task(train=train, test=test, num_outputs=C).evaluate(net, chunk=chunk)
    for name, (inputs, targets) in (("train", train), ("test", test)):
        assert found[f"{name}_loss"] == pytest.approx(float(reference(Task, net(inputs), targets)), rel=1e-12)
    counted = test[1] >= 0
    right = net(test[0]).argmax(-1)[counted] == test[1][counted]
    assert found["test_accuracy"] == pytest.approx(float(right.double().mean()), rel=1e-12)


@pytest.mark.parametrize("axes", [(), (T,)])
def test_full_gradients_weigh_samples_by_their_labels(make_block: Any, axes: tuple[int, ...]) -> None:
    data, net = labelled(*axes), model()
    block = make_block(task=Task(train=data, num_outputs=C), model=net, analysis=[])
    held = block.setup.holdings[0]
    assert min(map(len, held)) % block.setup.config.batch_size  # whole batches, and what is left
    for agent, gradient in enumerate(block.full_gradients()[: len(held)]):
        parameters = {n: p.detach().requires_grad_() for n, p in net.named_parameters()}
        inputs, targets = (t[held[agent]] for t in data)
        loss = reference(Task, functional_call(net, parameters, (inputs,)), targets)
        wanted = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(parameters.values()))])
        torch.testing.assert_close(gradient, wanted, rtol=1e-11, atol=1e-14)


def test_agents_need_labels_that_count(make_setup: Any) -> None:
    inputs, targets = labelled()
    parts = [range(4), range(4, 10), range(10, 20), range(20, N)]
    task = {"name": Task(train=(inputs, targets), num_outputs=C), "partition": lambda labels, num_agents: parts}
    with pytest.raises(ExperimentError, match="gives agent 0 no sample with a label that counts"):
        make_setup(task=task)


def test_attackers_flip_the_labels_that_count() -> None:
    batch = (torch.zeros(2, 3, 1), torch.tensor([[0, -100, 2], [0, -100, 2]]))
    sampler: Any = SimpleNamespace(batch=lambda step, size: batch)
    spoilt = SpoiltSampler(sampler, torch.tensor([True, False]), Task(train=labelled(), num_outputs=C))
    assert spoilt.batch(0)[1].tolist() == [[2, -100, 0], [0, -100, 2]]


class OwnMean(Task):
    def objective(self, model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (OwnMean(train=labelled(), num_outputs=C), "left out of the mean .* OwnMean has an `objective` of its own"),
        (Task(train=(torch.zeros(2, 1), torch.full((2,), -100)), num_outputs=2), "no label of train counts"),
    ],
)
def test_what_has_no_mean_is_refused(task: Task, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task.check()


def test_the_record_tells_how_many_do_not_count() -> None:
    task = supervised((torch.zeros(4, 1), torch.tensor([0, -100, 2, -100])))
    assert task.num_outputs == 3
    assert task.about_loss == "cross-entropy, since the targets are classes; 2 of 4 labels do not count"


class Weighted(Task):
    """Samples with weights of their own, and labels that may be none."""

    def weights(self, batch: Any) -> Tensor:
        return torch.arange(1.0, 1 + len(batch[0]), dtype=torch.float64)


def test_weights_do_not_make_a_label_of_none_count() -> None:
    inputs, targets = labelled(T)
    task, net = Weighted(train=(inputs, targets), num_outputs=C), model()
    losses = nn.functional.cross_entropy(net(inputs).mT, targets, reduction="none")
    weights = torch.arange(1.0, 1 + N, dtype=torch.float64)[:, None] * (targets != IGNORED)
    wanted = ((losses * weights).sum() / weights.sum()).item()
    assert task.objective(net, task.train).item() == pytest.approx(wanted, rel=1e-13)
    assert task.evaluate(net)["train_loss"] == pytest.approx(wanted, rel=1e-13)


class Chosen(Task):
    """Samples that count or do not."""

    def weights(self, batch: Any) -> Tensor:
        return torch.arange(len(batch[0])) % 2 == 0


def test_weights_of_samples_may_be_bool() -> None:
    inputs, targets = labelled(T)
    task, net = Chosen(train=(inputs, targets.clamp(min=0)), num_outputs=C), model()
    losses = nn.functional.cross_entropy(net(inputs).mT, task.train[1], reduction="none")
    assert task.objective(net, task.train).item() == pytest.approx(losses[::2].mean().item(), rel=1e-13)
