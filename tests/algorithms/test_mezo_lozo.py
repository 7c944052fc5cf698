"""MeZO, LOZO and LOZO-M: moments and rates in closed form, exact restoration, memory, one direction at both ends."""

import copy
import math

import pytest
import torch
from torch import nn

from basinet.algorithms import draws
from basinet.algorithms.optimizers import LOZO, LOZOM, LocalOptimizer, MeZO

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


def factors(optimizer, step):
    """U and Vᵀ of a step of the first group."""
    (group,) = optimizer.param_groups
    now, group["step"] = group["step"], step
    (found,) = optimizer.next_factors()
    group["step"] = now
    return found


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


def test_lozo_of_full_rank_has_the_moments_of_mezo():
    shape, rank = (6, 9), 54
    (slope,) = slopes = [randn(*shape)]
    (full,), (low,) = estimates(MeZO, [shape], slopes), estimates(LOZO, [shape], slopes, rank=rank, period=1)
    square = float(slope.square().sum())
    spread = ((full.var(0) + low.var(0)) / len(full)).sqrt()
    assert float(((full.mean(0) - low.mean(0)) / spread).abs().max()) < 5  # of 54 numbers
    norms = [g.flatten(1).square().sum(1) for g in (full, low)]
    error = math.sqrt(sum(float(n.var()) / len(n) for n in norms))
    # What a product of so many columns has more than a normal matrix: 1 % of the moment.
    excess = 2 * (sum(shape) + 1) / rank * square
    assert abs(float(norms[1].mean() - norms[0].mean()) - excess) < 5 * error
    assert excess < 0.02 * float(norms[0].mean())


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
            v = factors(optimizer, step)[1][0][0].mT
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
                torch.testing.assert_close(loss, found[step][n], rtol=1e-12, atol=0)
            for p, q in zip(together, alone, strict=True):
                torch.testing.assert_close(p[n], q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_memory_is_its_formula(name, sizes_made):
    kind, settings = KINDS[name]
    m, n, rank = 2048, 1024, 2
    layers = [nn.Parameter(torch.zeros(m, n)), nn.Parameter(torch.zeros(m))]
    optimizer = kind(layers, **settings)
    with sizes_made() as sizes:
        optimizer.prepare(lambda: layers[1].sum())
    assert sum(size >= m * n for size in sizes.made) == 1  # what the parameters come back from
    with sizes_made() as sizes:
        optimizer.step()
    assert max(sizes.made) <= m * n / 8
    for _ in range(3):  # over a change of V
        optimizer.step(lambda: layers[1].sum())
    held = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    expected = 4 * (m * rank + m) + 2 * 8 if name == "lozo_m" else 0
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


def test_the_loss_is_evaluated_twice_in_inference_mode():
    x = nn.Parameter(torch.ones(3, dtype=torch.float64))
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    seen = []

    def loss():
        value = (x**3).sum()
        seen.append((torch.is_inference_mode_enabled(), value.requires_grad, x.detach().clone(), frozen.clone()))
        return value

    optimizer = MeZO([x, frozen], eps=1e-4)
    found = optimizer.step(loss)
    assert len(seen) == 2 and x.grad is None and all(torch.equal(s[3], frozen) for s in seen)
    assert all(inference and not needs for inference, needs, *_ in seen) and not found.is_inference()
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
    # Sums of squares in another order; what a step takes from their rounding, the next one enlarges.
    torch.testing.assert_close(p, q, rtol=0, atol=1e-11 * float(q.detach().abs().max()))
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
        (MeZO, {"lr": math.inf}),
        (MeZO, {"eps": math.nan}),
        (MeZO, {"eps": "small"}),
        (MeZO, {"seed": 0.5}),
        (LOZO, {"rank": 1.5}),
        (LOZOM, {"momentum": math.nan}),
    ],
)
def test_settings_out_of_range_are_refused(kind, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        kind([nn.Parameter(torch.zeros(1))], **settings)
    optimizer = kind([nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], **settings})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", KINDS)
def test_a_plain_loss_keeps_its_digits(name):
    kind, settings = KINDS[name]
    slopes = []
    for make_loss in (float, lambda value: torch.tensor(value, dtype=torch.float64)):
        x = nn.Parameter(torch.tensor([3.0, 4.0]))
        optimizer = kind([x], eps=1e-3, **settings)
        optimizer.prepare(lambda x=x, make=make_loss: make(1e8 + float(x.detach().double().square().sum()) / 2))
        slopes.append(optimizer.coefficients)
    assert slopes[0].dtype == torch.float64 and float(slopes[0]) != 0
    assert torch.equal(*slopes)  # of 1e8, float32 has no digit behind the point


@pytest.mark.parametrize("loss", [1.0, torch.tensor(1.0), torch.ones(2), torch.ones(3, 1)], ids=str)
def test_agents_need_a_loss_each(loss):
    x = nn.Parameter(randn(3, 4))
    before = x.detach().clone()
    with pytest.raises(ValueError, match=r"MeZO: the closure must return losses of shape \(3,\), one per agent, got"):
        MeZO([x], agents=3).step(lambda: loss)
    assert torch.equal(x, before)
    with pytest.raises(ValueError, match=r"must return a single loss, got \(4,\)"):
        MeZO([x]).step(lambda: torch.ones(4))


@pytest.mark.parametrize("name", KINDS)
def test_a_state_brings_its_seed_with_it(name):
    kind, settings = KINDS[name]
    first, second = nn.Parameter(randn(5, 4)), nn.Parameter(randn(5, 4))
    optimizer, other = kind([first], seed=5, shared=True, **settings), kind([second], **settings)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert other.in_common
    for layer, twin in ((first, optimizer), (second, other)):
        for _ in range(4):
            twin.step(lambda layer=layer: layer.square().sum())
    assert torch.equal(first, second)


def test_a_momentum_goes_on_in_a_shorter_type():
    x = nn.Parameter(randn(5, 4, dtype=torch.float32))
    optimizer = LOZOM([x], lr=0.1, period=1)
    for _ in range(300):  # bfloat16 has no 299
        optimizer.step(lambda: x.square().sum())
    y = nn.Parameter(x.detach().bfloat16())
    other = LOZOM([y], lr=0.1, period=1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert other.state[y]["momentum"].dtype == torch.bfloat16 and int(other.state[y]["period"]) == 299
    other.step(lambda: y.float().square().sum())


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rests", [(), (0,), (3,), (3, 4), (2, 3, 4, 5, 6)], ids=str)
def test_agents_that_rest_are_separate_optimizers_that_skip_the_steps(rests, shared):
    """Also where V changes, at steps 3 and 6: momentum then goes from the V in which it was left to the present one."""
    agents, shapes, steps = 2, ((5, 4), (3,)), 9
    settings = {"lr": 0.05, "rank": 2, "period": 3, "eps": 0.1, "shared": shared}
    keys = torch.tensor([[1, 9], [2, 9]])
    sizes = [math.prod(shape) for shape in shapes]
    x, goal = randn(agents, sum(sizes)), randn(agents, sum(sizes), seed=1)

    def split(flat):
        return [part.view(len(flat), *shape) for part, shape in zip(flat.split(sizes, 1), shapes, strict=True)]

    alone = [[nn.Parameter(layer[n].clone()) for layer in split(x)] for n in range(agents)]
    twins = [LOZOM(layers, keys=keys[n : n + 1], **settings) for n, layers in enumerate(alone)]
    together = LocalOptimizer(lambda p, **given: LOZOM(p, **settings, **given), LOZOM, x, split, keys)
    for step in range(steps):
        coefficients = together.prepare(lambda: (x - goal).pow(4).sum(1), x, 1.0)
        together.step(coefficients, 1.0, torch.tensor([True, step not in rests]))
        for n, twin in enumerate(twins):
            (group,) = twin.param_groups
            if n == 1 and step in rests:
                group["step"] += 1
            else:
                twin.step(lambda n=n: (torch.cat([p.flatten() for p in alone[n]]) - goal[n]).pow(4).sum())
            flat = torch.cat([p.detach().flatten() for p in alone[n]])
            torch.testing.assert_close(x[n], flat, rtol=1e-10, atol=1e-12)


def test_momentum_that_rested_is_carried_to_the_present_subspace():
    """N V_oldᵀ V_new / n in matrices, from the factors that were drawn."""
    x = nn.Parameter(torch.zeros(5, 4, dtype=torch.float64))
    optimizer = LOZOM([x], lr=1.0, rank=2, period=3, momentum=0.8)
    optimizer.step(lambda: (x - 1).square().sum())
    (group,) = optimizer.param_groups
    group["step"] = 7  # of the third period
    v_old, v_new = (factors(optimizer, step)[1][0][0].mT for step in (0, 7))
    expected = optimizer.state[x]["momentum"][0] @ v_old.mT @ v_new @ v_new.mT / 4
    before = x.detach().clone()
    optimizer.step(lambda: torch.zeros(()))  # no slope: the momentum alone
    torch.testing.assert_close(before - x.detach(), 0.8 * expected / 2, rtol=1e-10, atol=1e-13)


def test_a_step_needs_evaluations():
    with pytest.raises(RuntimeError, match="MeZO evaluates by itself: its step needs a closure"):
        MeZO([nn.Parameter(torch.zeros(1))]).step()


def test_gossip_of_models_is_gossip_of_the_low_rank_factor_within_a_period():
    """X = X₀ + B Vᵀ of agents that agree when the period begins; what they then differ in, the next V cannot tell."""
    agents, m, n, rank, period, lr, eps = 5, 7, 6, 2, 6, 0.02, 0.1
    mixing = 0.5 * torch.eye(agents).double() + 0.25 * (torch.eye(agents).roll(1, 0) + torch.eye(agents).roll(-1, 0))
    goals = randn(agents, m, n, seed=1)
    keys = torch.stack([torch.arange(agents), torch.full((agents,), 9)], 1)

    def losses(x):
        return -(x - goals).cos().sum((1, 2))

    start = randn(m, n).expand(agents, m, n)
    x = nn.Parameter(start.clone())
    settings = {"lr": lr, "eps": eps, "rank": rank, "period": period, "shared": True, "agents": agents, "keys": keys}
    optimizer = LOZO([x], **settings)
    b = torch.zeros(agents, m, rank, dtype=torch.float64)
    for step in range(period):
        ((u,), (right,)) = factors(optimizer, step)
        v = right.mT
        here, direction = start + b @ v.mT, eps * u @ v.mT
        slopes = (losses(here + direction) - losses(here - direction)) / (2 * eps)
        b = torch.einsum("kl,lmr->kmr", mixing, b - lr * slopes[:, None, None] * u / rank)
        optimizer.step(lambda: losses(x))
        with torch.no_grad():
            x.copy_(torch.einsum("kl,lmn->kmn", mixing, x))
        torch.testing.assert_close(x.detach(), start + b @ v.mT, rtol=1e-12, atol=1e-12)
    rest, after = x.detach() - x.detach().mean(0), factors(optimizer, period)[1][0].mT
    seen = rest @ torch.linalg.pinv(after.mT) @ after.mT
    assert 0.01 < float(seen.norm()) < 0.9 * float(rest.norm())


def test_momentum_carried_to_a_new_subspace_keeps_r_over_n_of_its_energy():
    """E (V Vᵀ)² = r (n + r + 1) I of a normal V [n, r]: the share r (n + r + 1) / n², near r / n."""
    agents, m, n, rank, beta = 3000, 4, 24, 3, 0.9
    x = nn.Parameter(torch.zeros(agents, m, n, dtype=torch.float64))
    optimizer = LOZOM([x], lr=0.0, rank=rank, period=1, momentum=beta, agents=agents)
    optimizer.step(lambda: x.sum((1, 2)))
    old, new = (factors(optimizer, step)[1][0].mT for step in (0, 1))
    before = (optimizer.state[x]["momentum"] @ old.mT).square().sum((1, 2))
    optimizer.step(lambda: torch.zeros(agents))  # no slope: what is carried, times β
    after = (optimizer.state[x]["momentum"] @ new.mT / beta).square().sum((1, 2))
    kept = after / before
    assert abs(float(kept.mean()) - rank * (n + rank + 1) / n**2) < 4 * float(kept.std()) / math.sqrt(agents)


def test_closures_may_make_tensors_and_what_comes_back_is_ordinary():
    kind, settings = KINDS["lozo"]
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))
    optimizer = kind(model.parameters(), lr=0.01, **settings)
    inputs, made = torch.randn(8, 3), []

    def closure():
        made.append(model(inputs))
        return made[-1].square().mean()

    loss = optimizer.step(closure)
    assert all(t.is_inference() for t in made)
    assert not any(t.is_inference() for t in (loss, *model.state_dict().values()))
    model(inputs).sum().backward()  # and the model can be trained otherwise
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("agents", [None, 2])
def test_a_step_adds_its_factors(rank, agents):
    """Over a change of V and of what is trained; V is the same in a period, and none is taken for another."""
    shapes = [(6, 7), (8,), (7, 3, 2)]
    layers = [nn.Parameter(randn(*((agents,) if agents else ()), *shape).double()) for shape in shapes]
    settings = {"lr": 0.5, "eps": 0.1, "rank": rank, "period": 3, "agents": agents}
    optimizer = LOZO(layers, **settings)
    seen = []
    for step in range(7):
        layers[0].requires_grad_(step not in {1, 2})
        fresh = LOZO(layers, **settings)
        left, right = factors(fresh, step)
        trained = [p for p in layers if p.requires_grad]
        before = [p.detach().clone() for p in layers]
        loss = optimizer.step(lambda: sum(p.square().flatten(int(bool(agents))).sum(-1) for p in layers))
        assert loss.shape == ((agents,) if agents else ())
        moved = [p.detach() - b for p, b in zip(layers, before, strict=True)]
        frozen = [d for p, d in zip(layers, moved, strict=True) if not p.requires_grad]
        assert not any(d.any() for d in frozen)
        directions = [(u @ w / u.shape[2]).reshape(p.shape) for p, u, w in zip(trained, left, right, strict=True)]
        steps = [d for p, d in zip(layers, moved, strict=True) if p.requires_grad]
        for n in range(agents or 1):
            ours, theirs = (torch.cat([t.reshape(agents or 1, -1)[n] for t in parts]) for parts in (steps, directions))
            slope = ours @ theirs / (theirs @ theirs)
            torch.testing.assert_close(ours, slope * theirs, rtol=1e-9, atol=1e-12)
        seen.append(right[-1])
    assert torch.equal(seen[3], seen[4]) and not torch.equal(seen[2], seen[3])
