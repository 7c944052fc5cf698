"""What every optimizer is on a plain model: one of torch's, with its groups, schedules, closures and types."""

import copy
import math

import pytest
import torch
from torch import nn, optim

from basinet.algorithms.optimizers import OPTIMIZERS

SETTINGS = {
    "adam": {"lr": 0.02},
    "adamw": {"lr": 0.02},
    "clipped_sgd": {"lr": 0.05},
    "galore": {"lr": 0.05, "rank": 2, "period": 3, "momentum": 0.5},
    "golore": {"lr": 0.05, "rank": 2, "period": 3, "base": "adamw"},
    "lozo": {"lr": 0.01, "eps": 0.1, "period": 3},
    "lozo_m": {"lr": 0.01, "eps": 0.1, "period": 3},
    "mezo": {"lr": 0.01, "eps": 0.1},
    "sgd": {"lr": 0.05, "momentum": 0.5},
}
every = pytest.mark.parametrize("name", sorted(OPTIMIZERS))
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Training:
    """A small network, its data, and an optimizer of it."""

    def __init__(self, name, dtype=torch.float64, device="cpu", sign=1, grouped=None, **more):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 1))
        self.model = layers.to(torch.float64).to(dtype).to(device)
        x = torch.randn(64, 6, dtype=torch.float64)
        self.x, self.y = (t.to(dtype).to(device) for t in (x, x[:, :1] * x[:, 1:2] + x[:, 2:3]))
        self.sign = sign
        self.parameters = list(self.model.parameters())
        groups = self.parameters
        if grouped is not None:
            groups = [{"params": self.parameters[:2]}, {"params": self.parameters[2:], **grouped}]
        self.optimizer = OPTIMIZERS[name](groups, **{"lr": 0.05, **SETTINGS.get(name, {}), **more})

    def loss(self):
        error = self.model(self.x) - self.y
        return self.sign * error.to(torch.promote_types(error.dtype, torch.float32)).square().mean()

    def closure(self):
        """What torch asks of closures, but for the gradients that nobody wants where autograd is off."""
        self.optimizer.zero_grad()
        loss = self.loss()
        if torch.is_grad_enabled():
            loss.backward()
        return loss

    def run(self, steps):
        losses = [float(self.optimizer.step(self.closure).detach()) for _ in range(steps)]
        assert all(map(math.isfinite, losses))
        return self

    @property
    def flat(self):
        return torch.cat([p.detach().flatten() for p in self.parameters])


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_learns_in_every_type_and_goes_on_from_its_state(name, dtype):
    one = Training(name, dtype)
    start = float(one.loss().detach())
    first = float(one.optimizer.step(one.closure).detach())
    # Zeroth-order methods return the mean of two losses; the accelerated one evaluates where it is, at first.
    assert first == pytest.approx(start, rel=0.1 if "zo" in name else 1e-6)
    one.run(6)
    two = Training(name, dtype, lr=1.0)
    two.model.load_state_dict(one.model.state_dict())
    two.optimizer.load_state_dict(copy.deepcopy(one.optimizer.state_dict()))
    three = copy.deepcopy(one)
    assert torch.equal(one.run(7).flat, two.run(7).flat) and torch.equal(one.flat, three.run(7).flat)
    assert float(one.run(33).loss().detach()) < (0.95 if "zo" in name else 0.75) * start
    held = [t for state in one.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    assert {t.dtype for t in held if t.is_floating_point() and t.ndim} <= {dtype}
    assert {p.dtype for p in one.parameters} == {dtype}


@every
def test_groups_have_rates_of_their_own(name):
    settings = {"lr": SETTINGS.get(name, {}).get("lr", 0.05)}
    one, twice, still = (Training(name, grouped={"lr": factor * settings["lr"]}) for factor in (1, 2, 0))
    start = one.flat
    moved, further, rest = (training.run(1).flat - start for training in (one, twice, still))
    size = sum(p.numel() for p in one.parameters[:2])
    torch.testing.assert_close(moved[:size], further[:size], rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(2 * moved[size:], further[size:], rtol=1e-9, atol=1e-14)
    assert torch.equal(rest[size:], torch.zeros_like(rest[size:])) and rest[:size].any()


@every
def test_schedulers_set_the_rate(name):
    scheduled, by_hand = Training(name), Training(name)
    schedule = optim.lr_scheduler.ExponentialLR(scheduled.optimizer, gamma=0.5)
    for step in range(6):
        scheduled.run(1)
        schedule.step()
        by_hand.run(1)
        for group in by_hand.optimizer.param_groups:
            group["lr"] = group["initial_lr"] = SETTINGS.get(name, {}).get("lr", 0.05) * 0.5 ** (step + 1)
    assert torch.equal(scheduled.flat, by_hand.flat)


@every
def test_a_closure_is_as_good_as_gradients(name):
    one, two = Training(name), Training(name)
    for _ in range(5):
        one.run(1)
        evaluate = getattr(two.optimizer, "prepare", lambda closure: closure())
        evaluate(two.closure)
        assert two.optimizer.step() is None
    assert torch.equal(one.flat, two.flat)


@every
def test_maximizing_is_minimizing_the_negative(name):
    down, up = Training(name).run(5), Training(name, sign=-1, maximize=True).run(5)
    torch.testing.assert_close(down.flat, up.flat, rtol=1e-12, atol=1e-13)


@every
def test_weight_decay_lets_parameters_shrink(name):
    decayed = Training(name, weight_decay=0.1)
    for parameter in decayed.parameters:
        parameter.grad = torch.zeros_like(parameter)
    before = decayed.flat.norm()
    decayed.sign = 0  # a loss that is zero
    decayed.run(3)
    assert decayed.flat.norm() < before
    if name not in ("adam", "galore", "sgd"):  # where it goes through the gradient, momentum and all
        lr = SETTINGS.get(name, {}).get("lr", 0.05)
        torch.testing.assert_close(decayed.flat, (1 - 0.1 * lr) ** 3 * Training(name).flat, rtol=1e-9, atol=0)


@needs_gpu
@every
def test_a_gpu_goes_the_way_of_the_cpu(name):
    here, there = Training(name).run(8), Training(name, device="cuda").run(8)
    torch.testing.assert_close(there.flat.cpu(), here.flat, rtol=1e-7, atol=1e-8)
    held = [t for state in there.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    assert {t.device.type for t in held if t.ndim} <= {"cuda"}
