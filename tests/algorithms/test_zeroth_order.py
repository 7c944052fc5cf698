"""MeZO, LOZO and LOZO-M: moments and rates in closed form, exact restoration, memory, one direction at both ends."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from basinet.algorithms import draws
from basinet.algorithms.optimizers import LOZO, LOZOM, MeZO

KINDS = {"mezo": (MeZO, {}), "lozo": (LOZO, {"rank": 2, "period": 3}), "lozo_m": (LOZOM, {"rank": 2, "period": 3})}


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def estimates(kind, shapes, slopes, **settings):
    """The estimates ĝ of many agents of one linear loss, by one step with lr 1."""
    agents = 10_000
    layers = [nn.Parameter(torch.zeros(agents, *shape, dtype=torch.float64)) for shape in shapes]
    optimizer = kind(layers, lr=1.0, eps=0.5, agents=agents, **settings)
    optimizer.step(lambda: sum((p * g).flatten(1).sum(1) for p, g in zip(layers, slopes, strict=True)))
    return [-p.detach() for p in layers]


def second_moment(shape, rank):
    """E‖ĝ‖² / ‖G‖² of one matrix, or vector."""
    m, n = (*shape, 1)[:2]
    return m * n + 2 if rank is None or len(shape) < 2 else m * n + 2 + 2 * (m + n + 1) / rank


@pytest.mark.parametrize("rank", [None, 1, 2, 16])
def test_moments_of_the_estimate(rank):
    shapes = ((6, 9), (7,))
    slopes = [randn(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    kind, settings = (MeZO, {}) if rank is None else (LOZO, {"rank": rank})
    found = estimates(kind, shapes, slopes, **settings)
    squares = [float(g.square().sum()) for g in slopes]
    variances = (rank or 1, 1)  # of a number of each layer's direction
    moved = sum(v * square for v, square in zip(variances, squares, strict=True))
    for g, shape, slope, square, v in zip(found, shapes, slopes, squares, variances, strict=True):
        spread = g.std(0) / len(g) ** 0.5
        assert float(((g.mean(0) - slope) / spread).abs().max()) < 5  # of 61 numbers
        # What other layers add to the one number c moves this one, too, in a direction that has nothing to do with it.
        expected = second_moment(shape, rank) * square + slope.numel() * (moved / v - square)
        norms = g.flatten(1).square().sum(1)
        assert abs(float(norms.mean()) - expected) < 5 * float(norms.std()) / len(norms) ** 0.5


@pytest.mark.parametrize("rank", [None, 1, 4])
def test_evaluations_on_a_quadratic_of_low_rank(rank):
    k, m, n, agents, tolerance = 3, 12, 10, 400, 0.01
    p, q = (torch.linalg.qr(randn(size, k, seed=size))[0] for size in (m, n))
    kappa = k**2 + 2 if rank is None else k**2 + 2 + (4 * k + 2) / rank
    x = nn.Parameter((p @ randn(k, k) @ q.mT).expand(agents, m, n).clone())
    kind, settings = (MeZO, {}) if rank is None else (LOZO, {"rank": rank, "period": 1})
    optimizer = kind([x], lr=1 / kappa, agents=agents, **settings)

    def losses():
        return (p.mT @ x @ q).square().sum((1, 2)) / 2

    risks = [losses().detach()]
    while risks[-1].max() > tolerance * risks[0].max():
        optimizer.step(losses)
        risks.append(losses().detach())
    shares = torch.stack(risks) / risks[0]
    # The mean falls by 1 − 1/κ a step, exactly.
    for step in (1, 5, round(kappa)):
        error = float(shares[step].mean()) - (1 - 1 / kappa) ** step
        assert abs(error) < 5 * float(shares[step].std()) / agents**0.5
    evaluations = 2.0 * (shares > tolerance).sum(0)
    assert abs(float(evaluations.mean()) - 2 * kappa * math.log(1 / tolerance)) < float(evaluations.std())


@pytest.mark.parametrize("name", KINDS)
def test_the_step_goes_along_the_direction_of_the_evaluations(name):
    """Also where V changes, at every third step; LOZO-M sees its momentum in the new subspace by least squares."""
    kind, settings = KINDS[name]
    w, b = nn.Parameter(randn(5, 4)), nn.Parameter(randn(3))
    lr, eps, wd, beta = 0.05, 0.3, 0.1, 0.9
    optimizer = kind([w, b], lr=lr, eps=eps, weight_decay=wd, **settings)
    seen = []

    def loss():
        seen.append([w.detach().clone(), b.detach().clone()])
        return w.square().sum() + b.sin().sum() + w.sum() * b.sum()

    momentum = [torch.zeros_like(w), torch.zeros_like(b)]
    for step in range(8):
        before = [w.detach().clone(), b.detach().clone()]
        optimizer.prepare(loss)
        assert torch.equal(w, before[0]) and torch.equal(b, before[1])
        (above, below), seen[:] = seen, []
        values = [a.square().sum() + c.sin().sum() + a.sum() * c.sum() for a, c in (above, below)]
        slope = (values[0] - values[1]) / (2 * eps)
        if name == "lozo_m" and step and step % 3 == 0:
            v = optimizer._right(*next(iter(optimizer._keyed_groups())), step // 3)[0][0]
            momentum[0] = momentum[0] @ v @ v.mT / len(v)
        optimizer.step()
        for place, (x, plus, minus, now) in enumerate(zip(before, above, below, (w, b), strict=True)):
            direction = (plus - minus) / (2 * eps)
            torch.testing.assert_close(plus - x, x - minus, rtol=1e-9, atol=1e-12)
            rank = 2 if name != "mezo" and x.ndim == 2 else 1
            if name == "lozo_m":
                momentum[place] = beta * momentum[place] + (1 - beta) * slope * direction
            ahead = momentum[place] if name == "lozo_m" else slope * direction
            expected = (1 - lr * wd) * x - lr * ahead / rank
            torch.testing.assert_close(now.detach(), expected, rtol=1e-9, atol=1e-11)


def test_a_period_stays_in_its_subspace():
    x = nn.Parameter(torch.zeros(9, 8, dtype=torch.float64))
    optimizer = LOZO([x], lr=0.1, rank=2, period=5)
    ranks = []
    for _ in range(11):
        optimizer.step(lambda: (x - 1).square().sum())
        ranks.append(int(torch.linalg.matrix_rank(x.detach())))
    assert ranks == [2] * 5 + [4] * 5 + [6]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", KINDS)
def test_parameters_come_back_bit_by_bit(name, dtype):
    kind, settings = KINDS[name]
    tiny = randn(300, seed=1).to(dtype) * 1e-6 + 0.0  # a step of zero makes 0.0 of -0.0
    layers = [nn.Parameter(randn(20, 30).to(dtype)), nn.Parameter(tiny)]
    before = [p.detach().clone() for p in layers]
    optimizer = kind(layers, lr=0.0, **settings)
    moved = []

    def loss():
        moved.append(not torch.equal(layers[1], before[1]))
        return sum(p.float().square().sum() for p in layers)

    for _ in range(200):
        optimizer.step(loss)
    assert all(moved)
    for p, x in zip(layers, before, strict=True):
        assert torch.equal(p.detach().view(torch.uint8), x.view(torch.uint8))


@pytest.mark.parametrize("name", KINDS)
def test_it_learns_in_bfloat16(name):
    kind, settings = KINDS[name]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).to(torch.bfloat16)
    x = randn(64, 6).to(torch.bfloat16)
    y = x[:, :1]

    def loss():
        return (model(x) - y).float().square().mean()

    optimizer = kind(model.parameters(), lr=0.02, eps=0.05, **settings)
    first = loss().detach()
    for _ in range(200):
        optimizer.step(loss)
    assert loss() < 0.5 * first


@pytest.mark.parametrize("name", KINDS)
def test_stacked_agents_are_separate_optimizers(name):
    kind, settings = KINDS[name]
    shapes, agents = ((5, 4), (3,), (), (2, 3, 2, 2)), 3
    start = [randn(agents, *shape, seed=9 + len(shape)) for shape in shapes]
    goals = [randn(agents, *shape, seed=len(shape)) for shape in shapes]
    keys = torch.stack([draws.fold(torch.arange(agents), 5), torch.full((agents,), 7)], 1)
    for shared in (False, True):
        together = [nn.Parameter(x.clone()) for x in start]
        groups = [{"params": together[:2]}, {"params": together[2:], "lr": 0.02, "eps": 0.01}]
        optimizer = kind(groups, lr=0.01, agents=agents, keys=keys, shared=shared, **settings)

        def losses(layers=together):
            return sum((p - goal).reshape(agents, -1).pow(4).sum(1) for p, goal in zip(layers, goals, strict=True))

        found = [optimizer.step(losses) for _ in range(7)]
        for n in range(agents):
            alone = [nn.Parameter(x[n].clone()) for x in start]
            groups = [{"params": alone[:2]}, {"params": alone[2:], "lr": 0.02, "eps": 0.01}]
            twin = kind(groups, lr=0.01, keys=keys[n : n + 1], shared=shared, **settings)
            for step in range(7):
                loss = twin.step(
                    lambda a=alone, n=n: sum((p - g[n]).pow(4).sum() for p, g in zip(a, goals, strict=True))
                )
                torch.testing.assert_close(loss, found[step][n], rtol=1e-10, atol=0)
            for p, q in zip(together, alone, strict=True):
                torch.testing.assert_close(p[n], q, rtol=1e-10, atol=1e-12)


class Sizes(TorchDispatchMode):
    """Notes the size of every tensor that is made."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        before = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in before:
            self.made.append(result.untyped_storage().nbytes() // result.element_size())
        return result


@pytest.mark.parametrize("name", KINDS)
def test_memory_is_its_formula(name):
    kind, settings = KINDS[name]
    m, n, rank = 2048, 1024, 2
    layers = [nn.Parameter(torch.zeros(m, n)), nn.Parameter(torch.zeros(m))]
    optimizer = kind(layers, **settings)
    with Sizes() as sizes:
        optimizer.prepare(lambda: layers[1].sum())
    assert sum(size >= m * n for size in sizes.made) == 1  # what the parameters come back from
    with Sizes() as sizes:
        optimizer.step()
    assert max(sizes.made) <= m * n / 8
    for _ in range(3):  # over a change of V
        optimizer.step(lambda: layers[1].sum())
    held = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    expected = 4 * (m * rank + m) + 8 if name == "lozo_m" else 0
    assert sum(t.untyped_storage().nbytes() for t in held) == expected


@pytest.mark.parametrize("name", KINDS)
def test_a_state_that_is_read_back_goes_on_alike(name):
    kind, settings = KINDS[name]
    first = [nn.Parameter(randn(5, 4).bfloat16()), nn.Parameter(randn(3).bfloat16())]
    optimizer = kind(first, lr=0.05, **settings)

    def loss(layers):
        return lambda: sum(p.float().square().sum() for p in layers)

    for _ in range(4):
        optimizer.step(loss(first))
    second = [nn.Parameter(p.detach().clone()) for p in first]
    other = kind(second, lr=1.0, **settings)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    third, copied = copy.deepcopy((first, optimizer))
    for _ in range(4):
        for layers, twin in ((first, optimizer), (second, other), (third, copied)):
            twin.step(loss(layers))
    for p, q, r in zip(first, second, third, strict=True):
        assert torch.equal(p, q) and torch.equal(p, r)


def test_the_loss_is_evaluated_twice_without_autograd():
    x = nn.Parameter(torch.ones(3, dtype=torch.float64))
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    seen = []

    def loss():
        value = (x**3).sum()
        seen.append((torch.is_grad_enabled(), value.requires_grad, x.detach().clone(), frozen.clone()))
        return value

    found = MeZO([x, frozen], eps=1e-4).step(loss)
    assert len(seen) == 2 and x.grad is None and all(torch.equal(s[3], frozen) for s in seen)
    assert not any(grad or needs for grad, needs, *_ in seen)
    assert float(found) == pytest.approx(3.0, abs=1e-6)  # f(x), not f(x + εz)


def test_an_evaluation_that_fails_leaves_the_parameters():
    x = nn.Parameter(randn(3))
    before = x.detach().clone()
    with pytest.raises(ZeroDivisionError):
        MeZO([x]).step(lambda: 1 / 0)
    assert torch.equal(x, before)


def test_uphill_is_downhill_on_the_other_side():
    p, q = (nn.Parameter(randn(4, 3)) for _ in range(2))
    up, down = LOZOM([p], lr=0.1, maximize=True), LOZOM([q], lr=0.1)
    for _ in range(5):
        up.step(lambda: -p.square().sum())
        down.step(lambda: q.square().sum())
    torch.testing.assert_close(p, q, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_the_memory_format_changes_nothing(name):
    kind, settings = KINDS[name]
    x = randn(4, 3, 2, 2)
    p, q = nn.Parameter(x.clone()), nn.Parameter(x.contiguous(memory_format=torch.channels_last))
    for layer in (p, q):
        optimizer = kind([layer], lr=0.1, eps=0.5, **settings)
        for _ in range(4):
            optimizer.step(lambda layer=layer: layer.square().sum())
    torch.testing.assert_close(p, q, rtol=1e-12, atol=0)
    assert not torch.equal(p, x)


def test_seeds_and_agents_draw_apart():
    def direction(**settings):
        p = nn.Parameter(torch.zeros(2, 4))
        optimizer = MeZO([p], lr=1.0, agents=2, **settings)
        optimizer.step(lambda: p.sum(1))
        return p.detach()

    own, other, shared = direction(), direction(seed=1), direction(shared=True)
    assert not torch.equal(own, other) and not torch.equal(own[0], own[1])
    assert torch.equal(shared[0], shared[1])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MeZO, {"lr": -1.0}),
        (MeZO, {"eps": 0.0}),
        (MeZO, {"weight_decay": -0.1}),
        (LOZO, {"rank": 0}),
        (LOZO, {"period": 0}),
        (LOZOM, {"momentum": 1.0}),
    ],
)
def test_settings_out_of_range_are_refused(kind, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        kind([nn.Parameter(torch.zeros(1))], **settings)


def test_a_step_needs_evaluations():
    with pytest.raises(RuntimeError, match="MeZO evaluates by itself: its step needs a closure"):
        MeZO([nn.Parameter(torch.zeros(1))]).step()
