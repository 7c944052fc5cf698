"""One optimizer an agent, however it is executed."""

import math

import pytest
import torch
from torch import nn, optim

from basinet.algorithms.optimizers import NSGD, NSGDC, OPTIMIZERS, ClippedSGD, LocalOptimizer, OptimizerTraits
from basinet.algorithms.row_norms import inverse_norms

N, SHAPES = 3, ((2, 4), (5,))
SIZE = sum(torch.Size(s).numel() for s in SHAPES)


def split(flat):
    parts = flat.split([torch.Size(s).numel() for s in SHAPES], dim=1)
    return [part.view(len(flat), *shape) for part, shape in zip(parts, SHAPES, strict=True)]


class Normed(optim.Optimizer):
    """Not elementwise: steps by the normalised gradient of each tensor."""

    def __init__(self, params, lr=0.1, agents=None):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.grad / p.grad.norm())
                self.state[p]["count"] = self.state[p].get("count", 0) + 1


class StackedNormed(Normed):
    """The same, taking the leading axis as agents."""

    traits = OptimizerTraits(stacked="layers")

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                norms = p.grad.flatten(1).norm(dim=1).view(-1, *(1 for _ in p.shape[1:]))
                p.sub_(group["lr"] * p.grad / norms)


class Assigning(Normed):
    """The same, which puts new tensors in the place of parameters."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["before"] = p.data  # not a copy: nothing writes into it
                p.data = p.data - group["lr"] * p.grad / p.grad.norm()
                assert not torch.equal(p.data, self.state[p]["before"])


MAKERS = {
    "sgd": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": (optim.Adam, {"lr": 0.1, "amsgrad": True}),
    "adamw": (optim.AdamW, {"lr": 0.1}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "weight_decay": 0.01}),
    "rmsprop": (optim.RMSprop, {"lr": 0.1}),
    "nsgd": (NSGD, {"lr": 0.1}),
    "nsgd with momentum": (NSGD, {"lr": 0.1, "momentum": 0.9}),
    "nsgdc": (NSGDC, {"lr": 0.1, "clip": 2.0, "weight_decay": 0.01}),
    "clipped sgd": (ClippedSGD, {"lr": 0.1, "clip": 2.0}),
    "one each": (Normed, {"lr": 0.1}),
    "assigning": (Assigning, {"lr": 0.1}),
    "stacked": (StackedNormed, {"lr": 0.1}),
}


@pytest.mark.parametrize("name", MAKERS)
def test_agents_have_optimizers_of_their_own(name):
    kind, settings = MAKERS[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, SIZE, dtype=torch.float64, generator=generator)
    alone = [[nn.Parameter(layer[n].clone()) for layer in split(x)] for n in range(N)]
    twins = [(Normed if kind is StackedNormed else kind)(parameters, **settings) for parameters in alone]
    together = LocalOptimizer(lambda p, **more: kind(p, **more, **settings), kind, x, split)
    for t in range(5):
        g = torch.randn(N, SIZE, dtype=torch.float64, generator=generator)
        together.step(g, 1 / (t + 1))
        for n, twin in enumerate(twins):
            twin.param_groups[0]["lr"] = 0.1 / (t + 1)
            for parameter, layer in zip(alone[n], split(g), strict=True):
                parameter.grad = layer[n]
            twin.step()
        for n in range(N):
            flat = torch.cat([p.detach().flatten() for p in alone[n]])
            torch.testing.assert_close(x[n], flat, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", MAKERS)
def test_state_round_trip(name):
    kind, settings = MAKERS[name]
    x = torch.ones(N, SIZE, dtype=torch.float64)
    y = x.clone()
    first = LocalOptimizer(lambda p, **more: kind(p, **more, **settings), kind, x, split)
    second = LocalOptimizer(lambda p, **more: kind(p, **more, **settings), kind, y, split)
    g = torch.linspace(-1, 1, N * SIZE, dtype=torch.float64).view(N, SIZE)
    first.step(g, 1.0)
    second.load_state_dict(first.state_dict())
    y.copy_(x)
    for _ in range(3):
        first.step(g, 0.5)
        second.step(g, 0.5)
    assert torch.equal(x, y)


MORE = {
    "sgd": {"momentum": 0.9},
    "nsgd": {"momentum": 0.8},
    "galore": {"rank": 1, "period": 3, "momentum": 0.9},
    "golore": {"rank": 1, "period": 3, "momentum": 0.9},
    "mezo": {"eps": 0.1},
    "lozo": {"rank": 1, "period": 3, "eps": 0.1},
    "lozo_m": {"rank": 1, "period": 3, "eps": 0.1},
}
TOGETHER = {"adam", "adamw"}
"""Their count of steps, by which they correct their means, is one for all agents, also those that rest."""


def slope(x, n, t):
    """The gradient of a loss of agent n that is another one at each step, and not quadratic."""
    generator = torch.Generator().manual_seed(100 * n + t)
    a, b = torch.randn(2, SIZE, dtype=x.dtype, generator=generator)
    return x.sin() + 0.3 * x + a + b * x.cos()


def height(x, n, t):
    generator = torch.Generator().manual_seed(100 * n + t)
    a, b = torch.randn(2, SIZE, dtype=x.dtype, generator=generator)
    return (-x.cos() + 0.15 * x.square() + a * x + b * x.sin()).sum()


# LOZO-M carries its momentum over to a new subspace when the period changes, whether or not an agent steps then.
@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - TOGETHER - {"lozo_m"}))
@pytest.mark.parametrize("rests", [(2, 4, 5), (0, 3)])
def test_agents_that_rest_are_optimizers_that_skip_these_steps(name, rests):
    are_agents_separate(name, rests)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_agents_are_separate_optimizers(name):
    are_agents_separate(name, None)


def are_agents_separate(name, rests):
    """Compare the second of three agents with an optimizer of its own, in float64 to 1e-12."""
    kind, settings = OPTIMIZERS[name], {"lr": 0.05, **MORE.get(name, {})}
    if rests is not None and "rank" in settings and "momentum" in settings:
        settings["rank"] = None  # when subspaces change is counted for all agents together, too
    x = torch.linspace(-1, 2, N * SIZE, dtype=torch.float64).view(N, SIZE).clone()
    keys = torch.tensor([[1, 9], [2, 9], [3, 9]])
    alone = [nn.Parameter(layer[1].clone()) for layer in split(x)]
    keyed = {"keys": keys[1:2]} if OptimizerTraits.of(kind).keyed else {}
    twin = kind(alone, **settings, **keyed)
    together = LocalOptimizer(lambda p, **more: kind(p, **settings, **more), kind, x, split, keys)
    gradients = torch.zeros_like(x)

    def of_one(t):
        def closure():
            flat = torch.cat([p.detach().flatten() for p in alone])[None]
            for p, g in zip(alone, split(slope(flat[0], 1, t)[None]), strict=True):
                p.grad = g[0]
            return height(flat[0], 1, t)

        return closure

    for t in range(8):

        def evaluate(t=t):
            gradients.copy_(torch.stack([slope(row, n, t) for n, row in enumerate(x)]))
            return torch.stack([height(row, n, t) for n, row in enumerate(x)])

        if together.evaluates:
            found = together.prepare(evaluate, gradients, 1.0)
        else:
            evaluate()
            found = gradients
        together.step(found, 1.0, None if rests is None else torch.tensor([True, t not in rests, t % 2 == 0]))
        if t in (rests or ()):
            for group in twin.param_groups:  # which draws belong to a step is not for an agent to decide
                group.update({"step": group["step"] + 1} if "step" in group else {})
        else:
            twin.step(of_one(t))
        flat = torch.cat([p.detach().flatten() for p in alone])
        torch.testing.assert_close(x[1], flat, rtol=1e-12, atol=1e-12)


class Counting(optim.SGD):
    """Keeps its rate in the group, as schedule-free optimizers do, and a sum in another floating type."""

    def __init__(self, params, lr, agents=None):
        super().__init__(params, lr)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["weight"] = group.get("weight", 1.0) / 2
            for p in group["params"]:
                total = self.state[p].setdefault("sum", torch.zeros(p.shape, dtype=torch.float64))
                total += p.grad.double() / 3
                p.sub_(group["weight"] * total)


class StackedCounting(Counting):
    traits = OptimizerTraits(stacked="layers")


@pytest.mark.parametrize("kind", [Counting, StackedCounting])
def test_numbers_in_groups_and_other_types_survive(kind):
    x = torch.ones(N, SIZE)
    y = x.clone()
    first, second = (LocalOptimizer(lambda p, **more: kind(p, lr=0.1, **more), kind, z, split) for z in (x, y))
    g = torch.linspace(-1, 1, N * SIZE).view(N, SIZE)
    first.step(g, 1.0)
    second.load_state_dict(first.state_dict())
    y.copy_(x)
    first.step(g, 1.0)
    second.step(g, 1.0)
    assert torch.equal(x, y)
    held = [state["sum"] for state in second.optimizers[0].state.values()]
    assert all(total.dtype == torch.float64 for total in held)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_normalised_sgd_follows_its_equation(momentum):
    layers = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((3, 2), (4,), ())]
    optimizer = NSGD(layers, lr=0.3, momentum=momentum)
    x = torch.cat([p.detach().flatten() for p in layers])
    m = torch.zeros_like(x)
    for _ in range(4):
        g = torch.randn_like(x)
        for p, part in zip(layers, g.split([6, 4, 1]), strict=True):
            p.grad = part.view(p.shape)
        optimizer.step()
        m = momentum * m + (1 - momentum) * g
        x = x - 0.3 * m / m.norm()
        torch.testing.assert_close(torch.cat([p.detach().flatten() for p in layers]), x, rtol=1e-13, atol=0)
    before = [p.detach().clone() for p in layers]
    still = NSGD(layers, lr=0.3)
    still.zero_grad(set_to_none=False)
    still.step()  # where the gradient is zero, so is the step
    assert all(torch.equal(p, q) for p, q in zip(layers, before, strict=True))


@pytest.mark.parametrize("settings", [{"lr": -1}, {"momentum": 1.0}])
def test_normalised_sgd_refuses(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        NSGD([nn.Parameter(torch.zeros(1))], **settings)


@pytest.mark.parametrize("size", [1e-40, 1e-24, 1e20])
def test_the_step_of_normalised_sgd_has_its_length_at_any_scale(size):
    p = nn.Parameter(torch.zeros(4, 3).mT)  # not contiguous
    p.grad = torch.full((3, 4), size)
    NSGD([p], lr=0.5).step()
    assert float(p.detach().norm()) == pytest.approx(0.5, rel=1e-3 if size > 1e-38 else 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(1,), (1023, 2), (1024,), (5000, 3, 2048), (200_001,)])
def test_norms_are_those_in_double_precision(sizes, dtype):
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(4, sum(sizes), generator=generator, dtype=torch.float64)
    flat[1] = 1 / 3  # where every rounding is the same
    if dtype == torch.float32:
        flat[2] *= 1e-30
        flat[3] *= 1e30
    flat = flat.to(dtype)
    parts = flat.split(sizes, dim=1)
    found = inverse_norms(parts)
    assert found.dtype == (dtype if dtype == torch.float64 else torch.float32)
    # A piece of 2¹⁴ squares is summed in two lanes of a processor or more; of the sum's error the root has half. In
    # float32 the sum is as good as exact, and what is left are the roundings of the root and its reciprocal.
    error = 2**13 * torch.finfo(dtype).eps / 4 if dtype == torch.float64 else 4 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(found.double(), flat.double().square().sum(1).rsqrt(), rtol=error, atol=0)
    zeros = [torch.zeros_like(part) for part in parts]
    assert torch.equal(inverse_norms(zeros), torch.zeros(4, dtype=found.dtype))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_norms_of_other_agents_survive_what_is_not_a_number(value):
    rows = torch.full((3, 2000), 0.5)
    rows[1, 7] = value
    found = inverse_norms([rows])
    assert found[0] == found[2] == pytest.approx(1 / math.sqrt(500), rel=1e-5) and found[1] == 0
