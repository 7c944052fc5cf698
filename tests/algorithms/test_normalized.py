"""Normalised and clipped SGD against their equations, written by hand on one flat vector."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from basinet.algorithms.optimizers import ANSGDC, NSGD, NSGDC, NSGDCVR, OPTIMIZERS, ClippedSGD, NSGDm

F64 = torch.float64
SHAPES = ((3, 2), (4,), ())
SIZES = [torch.Size(shape).numel() for shape in SHAPES]
SIZE = sum(SIZES)
LR, THETA, H = 0.3, 0.8, 2.0

MAKERS = {
    "nsgd": (NSGD, {}),
    "nsgdm": (NSGDm, {"momentum": THETA}),
    "nsgdc": (NSGDC, {"momentum": THETA, "clip": H}),
    "nsgdc_vr": (NSGDCVR, {"momentum": THETA, "clip": H}),
    "a_nsgdc": (ANSGDC, {"momentum": THETA, "clip": H}),
    "clipped_sgd": (ClippedSGD, {"clip": H}),
}
STATE = {"nsgd": 0, "nsgdm": 1, "nsgdc": 1, "nsgdc_vr": 2, "a_nsgdc": 2, "clipped_sgd": 0}
"""What is kept, in numbers a parameter."""


def noise(t, n=0):
    """Gradient noise of agent n at step t: the same at every point, but for a factor that is not."""
    generator = torch.Generator().manual_seed(100 * n + t)
    return torch.randn(2, SIZE, dtype=F64, generator=generator)


def oracle(x, t, n=0):
    """The gradient of one sample of a loss that is not quadratic, at any of its points."""
    additive, factor = noise(t, n)
    return x.sin() + 0.3 * x + additive + factor * x.cos()


def clip(g):
    return min(1.0, H / float(g.norm())) * g


def by_hand(name, x, steps, n=0, weight_decay=0.0):
    m, previous = torch.zeros_like(x), x
    for t in range(steps):
        g = oracle(x, t, n)
        if name == "nsgd":
            m = g
        elif name == "nsgdm":
            m = THETA * m + (1 - THETA) * g
        elif name == "nsgdc":
            m = THETA * m + (1 - THETA) * clip(g)
        elif name == "nsgdc_vr":
            m = THETA * m + (1 - THETA) * clip(g) + THETA * (g - oracle(previous, t, n))
        elif name == "a_nsgdc":
            m = THETA * m + (1 - THETA) * clip(oracle(x + THETA / (1 - THETA) * (x - previous), t, n))
        direction = clip(g) if name == "clipped_sgd" else m / m.norm()
        previous, x = x, (1 - LR * weight_decay) * x - LR * direction
    return x


def layers(x):
    return [nn.Parameter(part.reshape(shape).clone()) for part, shape in zip(x.split(SIZES), SHAPES, strict=True)]


def flat(parameters):
    return torch.cat([p.detach().flatten() for p in parameters])


def closure_of(parameters, t, n=0):
    def closure():
        x = flat(parameters)
        for p, part in zip(parameters, oracle(x.double(), t, n).split(SIZES), strict=True):
            p.grad = part.view(p.shape).to(p.dtype)
        return float(x.sum())

    return closure


def start():
    return torch.linspace(-1, 2, SIZE, dtype=F64)


def test_the_equations_are_those_of_the_registered_names():
    assert {name: kind for name, (kind, _) in MAKERS.items()}.items() <= OPTIMIZERS.items()
    for kind, _ in MAKERS.values():
        kind([nn.Parameter(torch.zeros(2))], lr=0.1)  # every setting but the rate has a default


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", MAKERS)
def test_each_follows_its_equation(name, weight_decay):
    kind, settings = MAKERS[name]
    parameters = layers(start())
    groups = [{"params": parameters[:2]}, {"params": parameters[2:]}]
    optimizer = kind(groups, lr=LR, weight_decay=weight_decay, **settings)
    for t in range(8):
        before = float(flat(parameters).sum())
        loss = optimizer.step(closure_of(parameters, t))
        assert loss == before or name == "a_nsgdc"
    expected = by_hand(name, start(), 8, weight_decay=weight_decay)
    torch.testing.assert_close(flat(parameters), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MAKERS)
def test_stacked_agents_are_agents_by_themselves(name):
    kind, settings = MAKERS[name]
    x = nn.Parameter(torch.stack([start(), -start(), start().flip(0)]))
    optimizer = kind([x], lr=LR, agents=3, **settings)
    for t in range(6):

        def closure(t=t):
            x.grad = torch.stack([oracle(row, t, n) for n, row in enumerate(x.detach())])

        optimizer.step(closure)
    for n, row in enumerate((start(), -start(), start().flip(0))):
        torch.testing.assert_close(x[n].detach(), by_hand(name, row, 6, n), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_state_has_the_stated_size_and_comes_back(name, dtype):
    kind, settings = MAKERS[name]
    first = layers(start().to(dtype))
    optimizer = kind(first, lr=LR, **settings)
    for t in range(3):
        optimizer.step(closure_of(first, t))
    held = [value for state in optimizer.state.values() for value in state.values()]
    assert sum(value.numel() * value.element_size() for value in held) == STATE[name] * SIZE * dtype.itemsize
    second = layers(flat(first))
    again = kind(second, lr=1.0, **settings)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch keeps the tensors that it is given
    for t in range(3, 6):
        optimizer.step(closure_of(first, t))
        again.step(closure_of(second, t))
    assert torch.equal(flat(first), flat(second)) and first[0].dtype == dtype
    # A number of few digits moves by about as many of the last one as there were steps.
    error = 6 * 10 * torch.finfo(dtype).eps
    torch.testing.assert_close(flat(first).double(), by_hand(name, start(), 6), rtol=error, atol=error)


@pytest.mark.parametrize("name", MAKERS)
def test_climbing_is_descending_the_negative_loss(name):
    kind, settings = MAKERS[name]
    down, up = layers(start()), layers(start())
    descent, ascent = kind(down, lr=LR, **settings), kind(up, lr=LR, maximize=True, **settings)
    for t in range(4):

        def negative(t=t):
            closure_of(up, t)()
            for p in up:
                p.grad.neg_()

        descent.step(closure_of(down, t))
        ascent.step(negative)
    assert torch.equal(flat(down), flat(up))


@pytest.mark.parametrize("name", MAKERS)
def test_schedulers_of_torch_set_the_rate(name):
    kind, settings = MAKERS[name]
    parameters = layers(start())
    optimizer = kind(parameters, lr=LR, **settings)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    lengths = []
    for t in range(4):
        before = flat(parameters)
        optimizer.step(closure_of(parameters, t))
        lengths.append(float((flat(parameters) - before).norm()))
        schedule.step()
    if name == "clipped_sgd":
        assert all(length <= LR * 0.5**t * H * (1 + 1e-12) for t, length in enumerate(lengths))
    else:
        assert lengths == pytest.approx([LR * 0.5**t for t in range(4)])


@pytest.mark.parametrize(
    ("special", "general"),
    [
        ((NSGDC, {"momentum": THETA, "clip": math.inf}), (NSGDm, {"momentum": THETA})),
        ((NSGDm, {"momentum": 0.0}), (NSGD, {})),
        ((NSGDCVR, {"momentum": 0.0, "clip": H}), (NSGDC, {"momentum": 0.0, "clip": H})),
        ((ANSGDC, {"momentum": 0.0, "clip": H}), (NSGDC, {"momentum": 0.0, "clip": H})),
        ((ClippedSGD, {"clip": math.inf}), (torch.optim.SGD, {})),
    ],
    ids=["NSGDC, h = ∞", "NSGDm, θ = 0", "VR, θ = 0", "A, θ = 0", "clipped, h = ∞"],
)
def test_special_cases_are_equal_bit_by_bit(special, general):
    ends = []
    for kind, settings in (special, general):
        parameters = layers(start())
        optimizer = kind(parameters, lr=LR, **settings)
        for t in range(6):
            optimizer.step(closure_of(parameters, t))
        ends.append(flat(parameters))
    assert torch.equal(*ends)


@pytest.mark.parametrize("kind", [NSGDCVR, ANSGDC])
def test_preparing_leaves_the_parameters_alone_and_comes_before_a_step(kind):
    parameters = layers(start())
    optimizer = kind(parameters, lr=LR, momentum=THETA, clip=H)
    for t in range(3):
        before = flat(parameters)
        optimizer.prepare(closure_of(parameters, t))
        assert torch.equal(flat(parameters), before)
        optimizer.step()
    with pytest.raises(RuntimeError, match="needs gradients at other points"):
        optimizer.step()
    failing = layers(start())
    broken = kind(failing, lr=LR)
    broken.step(closure_of(failing, 0))
    before = flat(failing)
    with pytest.raises(ZeroDivisionError):
        broken.prepare(lambda: 1 / 0)
    assert torch.equal(flat(failing), before)


def test_prepared_gradients_of_variance_reduction_average_over_agents():
    """A server that averages what agents have prepared steps by the mean of their recursions."""
    x, previous, m = start(), start(), torch.zeros(SIZE, dtype=F64)
    copies = nn.Parameter(start().expand(3, -1).clone())
    optimizer = NSGDCVR([copies], lr=LR, momentum=THETA, clip=H, agents=3)
    for t in range(5):

        def closure(t=t):
            copies.grad = torch.stack([oracle(row, t, n) for n, row in enumerate(copies.detach())])

        optimizer.prepare(closure)
        copies.grad.copy_(copies.grad.mean(0))
        optimizer.step()
        here, there = ([oracle(place, t, n) for n in range(3)] for place in (x, previous))
        h = sum((1 - THETA) * clip(g) + THETA * (g - old) for g, old in zip(here, there, strict=True)) / 3
        m = THETA * m + h
        previous, x = x, x - LR * m / m.norm()
    torch.testing.assert_close(copies.detach(), x.expand(3, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [NSGDCVR, ANSGDC])
def test_an_agent_whose_state_is_reset_begins_anew(kind):
    x = nn.Parameter(torch.stack([start(), start()]))
    optimizer = kind([x], lr=LR, momentum=THETA, clip=H, agents=2)

    def closure(t):
        def evaluate():
            x.grad = torch.stack([oracle(row, t) for row in x.detach()])

        return evaluate

    for t in range(3):
        optimizer.step(closure(t))
    for value in optimizer.state[x].values():
        value[1] = 0
    fresh = layers(x[1].detach())
    twin = kind(fresh, lr=LR, momentum=THETA, clip=H)
    for t in range(3, 6):
        optimizer.step(closure(t))
        twin.step(closure_of(fresh, t))
    torch.testing.assert_close(x[1].detach(), flat(fresh), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(x[0], x[1])


@pytest.mark.parametrize("settings", [{"lr": -1.0}, {"momentum": 1.0}, {"clip": 0.0}, {"weight_decay": -0.1}])
def test_what_is_refused(settings):
    for kind in (NSGD, NSGDC, NSGDCVR, ANSGDC):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
            kind([nn.Parameter(torch.zeros(1))], **settings)
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
            kind([{"params": [nn.Parameter(torch.zeros(1))], **settings}])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_alone(name, duplicate):
    kind, settings = MAKERS[name]
    parameters = layers(start())
    optimizer = kind(parameters, lr=LR, **settings)
    optimizer.step(closure_of(parameters, 0))
    getattr(optimizer, "prepare", lambda closure: closure())(closure_of(parameters, 1))
    others, copied = duplicate((parameters, optimizer))
    for p, q in zip(parameters, others, strict=True):
        q.grad = p.grad.clone()  # copies of parameters have no gradients
    for own, where in ((optimizer, parameters), (copied, others)):
        own.step()
        own.step(closure_of(where, 2))
    assert torch.equal(flat(parameters), flat(others))
    copied.step(closure_of(others, 3))
    assert not torch.equal(flat(parameters), flat(others))
    assert copied.agents is None


@pytest.mark.parametrize("agents", [None, 2])
@pytest.mark.parametrize("kind", [NSGDCVR, ANSGDC])
def test_groups_have_momenta_of_their_own(kind, agents):
    """One without a momentum moves back with the others: their gradients depend on it."""
    thetas = (THETA, 0.0, THETA / 2)
    theta = torch.cat([torch.full((size,), value, dtype=F64) for size, value in zip(SIZES, thetas, strict=True)])
    coupling = torch.full((SIZE, SIZE), 0.3, dtype=F64)

    def gradient(x, t):
        return oracle(x, t) + coupling @ x.sin()

    starts = [start(), -start()] if agents else [start()]
    parts = [torch.stack(columns) for columns in zip(*(s.split(SIZES) for s in starts), strict=True)]
    parameters = [nn.Parameter(part.clone() if agents else part[0].clone()) for part in parts]
    groups = [{"params": [p], "momentum": value} for p, value in zip(parameters, thetas, strict=True)]
    optimizer = kind(groups, lr=LR, clip=math.inf, agents=agents)

    def closure(t):
        def evaluate():
            x = torch.cat([p.detach().view(len(starts), -1) for p in parameters], 1)
            found = torch.stack([gradient(row, t) for row in x])
            for p, g in zip(parameters, found.split(SIZES, dim=1), strict=True):
                p.grad = g.reshape(p.shape).clone()

        return evaluate

    for t in range(6):
        optimizer.step(closure(t))
    ends = torch.cat([p.detach().view(len(starts), -1) for p in parameters], 1)
    for x, end in zip(starts, ends, strict=True):
        m, previous = torch.zeros(SIZE, dtype=F64), x
        for t in range(6):
            if kind is NSGDCVR:
                g = gradient(x, t)
                m = theta * m + (1 - theta) * g + theta * (g - gradient(previous, t))
            else:
                m = theta * m + (1 - theta) * gradient(x + theta / (1 - theta) * (x - previous), t)
            previous, x = x, x - LR * m / m.norm()
        torch.testing.assert_close(end, x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_is_kept_of_what_is_frozen(name):
    kind, settings = MAKERS[name]
    frozen, trained = nn.Parameter(torch.ones(50), requires_grad=False), nn.Parameter(torch.ones(3))
    optimizer = kind([frozen, trained], lr=LR, **settings)

    def closure():
        trained.grad = trained.detach().clone()

    for _ in range(3):
        optimizer.step(closure)
    assert sum(v.numel() for state in optimizer.state.values() for v in state.values()) == STATE[name] * 3
    assert torch.equal(frozen.detach(), torch.ones(50))


@pytest.mark.parametrize("shape", [(4,), (2, 2), ()])
@pytest.mark.parametrize("agents", [None, 1])
def test_small_gradients_of_half_precision_are_normalised(shape, agents):
    p = nn.Parameter(torch.zeros(shape if agents is None else (1, *shape), dtype=torch.float16))
    p.grad = torch.full_like(p, 4e-6)  # the inverse norm is beyond the numbers of float16
    NSGD([p], lr=0.5, agents=agents).step()
    assert float(p.detach().float().norm()) == pytest.approx(0.5, rel=2**-10)
