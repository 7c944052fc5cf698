"""GaLore, GoLore and their sparse twins: the base optimizer in a subspace, on one model or many agents."""

import copy
import importlib
import math
import sys
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import nn, optim

from basinet.algorithms import draws
from basinet.algorithms.optimizers import GaLore, GoLore, LocalOptimizer
from basinet.algorithms.optimizers.subspaces.projection import LowRank, Sparse

SHAPES = ((6, 9), (9, 6), (7,), (8, 2, 3, 3), ())
"""A matrix on its side, one upright, a vector, a convolution, a number."""


def make_parameters(seed=0, dtype=torch.float64, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in shapes]


def give_gradients(parameters, seed):
    for p, g in zip(
        parameters, make_parameters(1000 + seed, torch.float64, [p.shape for p in parameters]), strict=True
    ):
        p.grad = g.detach().to(p.dtype)


def run(optimizer, parameters, steps, start=0):
    for step in range(start, start + steps):
        give_gradients(parameters, step)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in parameters])


def values(parameters):
    return torch.cat([p.detach().flatten() for p in parameters])


CASES = {
    "galore": (GaLore, {"momentum": 0.9}),
    "galore adamw": (GaLore, {"base": "adamw", "weight_decay": 0.1}),
    "golore": (GoLore, {"weight_decay": 0.1}),
    "golore with momentum": (GoLore, {"momentum": 0.9, "scale": 2.0}),
    "golore adamw": (GoLore, {"base": "adamw"}),
    "golore in the second half": (GoLore, {"momentum": 0.9, "random_from": 5}),
    "galore sparse": (GaLore, {"subspace": "sparse", "momentum": 0.9}),
    "golore sparse adamw": (GoLore, {"subspace": "sparse", "base": "adamw"}),
}
cases = pytest.mark.parametrize("case", CASES)


def make(case, parameters, **more):
    kind, settings = CASES[case]
    return kind(parameters, **{"lr": 0.05, "rank": 2, "period": 3} | settings | more)


# --- projections ---


@pytest.mark.parametrize("kind", [LowRank, Sparse])
@pytest.mark.parametrize("chosen", ["followed", "drawn"])
def test_a_subspace_is_an_orthogonal_projection(kind, chosen):
    subspace, shape = kind(2), (5, 7)
    g = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keys = torch.arange(3)
    basis = subspace.follow(g) if chosen == "followed" else subspace.draw(keys, shape, g.dtype)
    once = subspace.lift(subspace.project(g, basis), basis, shape)
    twice = subspace.lift(subspace.project(once, basis), basis, shape)
    torch.testing.assert_close(twice, once, rtol=1e-12, atol=1e-12)  # P² = P
    torch.testing.assert_close((once * (g - once)).sum((1, 2)), torch.zeros(3).double(), rtol=0, atol=1e-12)
    assert subspace.project(g, basis)[0].numel() == 2 * 7
    kept = (once.square().sum((1, 2)) / g.square().sum((1, 2))).tolist()
    if chosen == "drawn":
        assert torch.equal(subspace.draw(keys[1:2], shape, g.dtype), basis[1:2])
        assert len(set(kept)) == 3
    elif kind is LowRank:  # nothing of that rank keeps more: Eckart and Young
        s = torch.linalg.svdvals(g).square()
        assert kept == pytest.approx((s[:, :2].sum(1) / s.sum(1)).tolist(), rel=1e-12)
    else:
        largest = g.flatten(1).square().sort(dim=1, descending=True).values
        assert kept == pytest.approx((largest[:, :14].sum(1) / largest.sum(1)).tolist(), rel=1e-12)


@pytest.mark.parametrize("kind", [LowRank, Sparse])
def test_a_random_subspace_prefers_no_direction(kind):
    subspace, shape, number = kind(2), (5, 6), 4000
    basis = subspace.draw(draws.fold(torch.tensor(1), torch.arange(number)), shape, torch.float64)
    g = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).expand(number, -1, -1)
    parts = subspace.lift(subspace.project(g, basis), basis, shape)
    error = parts.std(0) / math.sqrt(number)
    assert float(((parts.mean(0) - 2 / 5 * g[0]) / error).abs().max()) < 4.5  # of 30 normal numbers


def test_the_draw_is_uniform_on_the_stiefel_manifold():
    p = LowRank(2).draw(draws.fold(torch.tensor(2), torch.arange(20_000)), (4, 6), torch.float64)
    torch.testing.assert_close(p.mT @ p, torch.eye(2).double().expand(20_000, 2, 2), rtol=0, atol=1e-12)
    # Each entry of a uniform unit vector in four dimensions: mean 0, variance 1/4, fourth moment 3 / (4 · 6).
    for power, moment, variance in ((1, 0, 1 / 4), (2, 1 / 4, 3 / 24 - 1 / 16), (4, 3 / 24, 105 / 1920 - 1 / 64)):
        z = (p.pow(power).mean(0) - moment) / math.sqrt(variance / 20_000)
        assert float(z.abs().max()) < 4.5


@pytest.mark.parametrize("kind", [LowRank, Sparse])
def test_momentum_carried_to_an_independent_subspace_keeps_r_over_s(kind):
    subspace, shape, number = kind(3), (24, 30), 500
    keys = draws.fold(torch.tensor(3), torch.arange(2 * number)).view(2, number)
    old, new = (subspace.draw(part, shape, torch.float64) for part in keys)
    m = subspace.project(
        torch.randn(number, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), old
    )
    kept = subspace.carry(m, old, new, shape).flatten(1).square().sum(1) / m.flatten(1).square().sum(1)
    assert abs(float(kept.mean()) - 3 / 24) < 4 * float(kept.std()) / math.sqrt(number)
    torch.testing.assert_close(subspace.carry(m, old, old, shape), m, rtol=1e-12, atol=1e-12)


# --- the step ---


@pytest.mark.parametrize("base", ["sgd", "adamw"])
@pytest.mark.parametrize("maximize", [False, True])
def test_full_rank_is_the_base_optimizer(base, maximize):
    ours, theirs = make_parameters(), make_parameters()
    common = {"lr": 0.05, "weight_decay": 0.1, "maximize": maximize}
    if base == "sgd":
        reference = optim.SGD(theirs, momentum=0.9, **common)
        optimizer = GoLore(ours, rank=8, period=2, momentum=0.9, **common)
    else:
        reference = optim.AdamW(theirs, betas=(0.8, 0.99), eps=1e-6, **common)
        optimizer = GaLore(ours, rank=8, period=2, base="adamw", betas=(0.8, 0.99), eps=1e-6, **common)
    torch.testing.assert_close(run(optimizer, ours, 7), run(reference, theirs, 7), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("side", [(6, 9), (9, 6), (6, 6)])
def test_golore_with_momentum_follows_its_equations(side):
    (x,) = make_parameters(shapes=[side])
    optimizer = GoLore([x], lr=0.1, rank=2, period=3, momentum=0.8, scale=3.0, seed=5)
    key = draws.fold(draws.fold(torch.tensor(draws.key(5, "optimizer")), 0), 0)
    expected = x.detach().clone()
    m = p = None
    for step in range(8):
        give_gradients([x], step)
        g = x.grad if side[0] <= side[1] else x.grad.mT
        if step % 3 == 0:
            z = draws.normal(draws.fold(key, step), (6, 2))
            # The polar factor would be as uniform; Gram and Schmidt give the Q with a positive diagonal.
            q1 = z[:, 0] / z[:, 0].norm()
            q2 = z[:, 1] - (q1 @ z[:, 1]) * q1
            new = torch.stack([q1, q2 / q2.norm()], dim=1)
            m = torch.zeros(2, max(side)).double() if p is None else new.mT @ p @ m
            p = new
        m = 0.8 * m + p.mT @ g
        expected -= 0.1 * 3.0 * (p @ m if side[0] <= side[1] else (p @ m).mT)
        optimizer.step()
        torch.testing.assert_close(x.detach(), expected, rtol=1e-11, atol=1e-12)


@pytest.fixture
def published(monkeypatch):
    """The AdamW of galore-torch: of what its package imports, this file asks no more than a check of versions."""
    found = importlib.util.find_spec("galore_torch")
    if found is None:
        pytest.skip("galore-torch is not installed")
    stubs = {name: ModuleType(name) for name in ("galore_torch", "transformers.utils.versions")}
    stubs["galore_torch"].__path__ = found.submodule_search_locations
    stubs["transformers.utils.versions"].require_version = lambda _: None
    for name, module in stubs.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield importlib.import_module("galore_torch.adamw").AdamW
    for name in ("galore_torch.adamw", "galore_torch.galore_projector"):
        del sys.modules[name]


@pytest.mark.parametrize(("betas", "period"), [((0.9, 0.999), 12), ((0.0, 0.99), 4)])
def test_adamw_goes_the_way_of_the_published_code_where_no_momentum_is_to_be_carried(published, betas, period):
    """So within a period, or without β₁. Besides, it projects square matrices on their other side, decays parameters
    after the step in the place of before it, and adds ε ahead of the correction of the second moments."""
    shapes = [(6, 9), (9, 6), (12, 5)]
    ours, theirs = make_parameters(shapes=shapes), make_parameters(shapes=shapes)
    common = {"lr": 0.05, "betas": betas, "eps": 0.0}
    optimizer = GaLore(ours, rank=2, period=period, scale=0.25, base="adamw", **common)
    group = {"params": theirs, "rank": 2, "update_proj_gap": period, "scale": 0.25, "proj_type": "std"}
    reference = published([group], no_deprecation_warning=True, **common)
    # It decomposes gradients in single precision: to some eighty of its roundings.
    torch.testing.assert_close(run(optimizer, ours, 12), run(reference, theirs, 12), rtol=1e-5, atol=1e-5)


def test_of_parameters_without_subspaces_too_the_published_code_is_ours(published):
    ours, theirs = make_parameters(), make_parameters()
    optimizer = GaLore(ours, lr=0.05, rank=None, base="adamw", betas=(0.8, 0.99), eps=0.0)
    reference = published(theirs, lr=0.05, betas=(0.8, 0.99), eps=0.0, no_deprecation_warning=True)
    torch.testing.assert_close(run(optimizer, ours, 12), run(reference, theirs, 12), rtol=1e-12, atol=1e-13)


def test_galore_becomes_golore_where_it_is_told_to():
    galore, switched, golore = make_parameters(), make_parameters(), make_parameters()
    common = {"rank": 2, "period": 3, "momentum": 0.9}
    a, b, c = GaLore(galore, **common), GoLore(switched, random_from=6, **common), GoLore(golore, **common)
    assert torch.equal(run(a, galore, 6), run(b, switched, 6))
    assert not torch.equal(run(a, galore, 1, 6), run(b, switched, 1, 6))
    run(c, golore, 7)
    for p, q in zip(switched, golore, strict=True):
        assert ("basis" in b.state[p]) == (p.ndim >= 2)
        assert torch.equal(b.state[p].get("basis", p), c.state[q].get("basis", p))


def test_the_sparse_twins_step_the_entries_of_their_masks():
    (x,) = make_parameters(shapes=[(5, 8)])
    before = x.detach().clone()
    give_gradients([x], 0)
    GaLore([x], lr=1.0, rank=2, subspace="sparse").step()
    largest = x.grad.abs() >= x.grad.abs().flatten().sort(descending=True).values[2 * 8 - 1]
    torch.testing.assert_close(before - x.detach(), x.grad * largest, rtol=1e-12, atol=1e-14)
    moved = x.detach().clone()
    GoLore([x], lr=1.0, rank=2, subspace="sparse").step()
    assert int((x.detach() != moved).sum()) == 2 * 8


def test_groups_choose_their_own_subspaces():
    free, held, plain = make_parameters(shapes=[(6, 9)] * 3)
    optimizer = GoLore([{"params": [free], "rank": None, "momentum": 0.9}, {"params": [held], "rank": 3}], rank=2)
    with torch.no_grad():
        plain.copy_(free)
    reference = optim.SGD([plain], lr=0.01, momentum=0.9)
    for step in range(4):
        give_gradients([free, held], step)
        plain.grad = free.grad
        optimizer.step()
        reference.step()
    torch.testing.assert_close(free, plain, rtol=1e-12, atol=1e-13)
    assert "basis" not in optimizer.state[free] and optimizer.state[held]["basis"].shape == (1, 6, 3)


def test_what_is_left_whole_is_told_by_its_name():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 7), nn.Linear(7, 8)).double()
    twin = copy.deepcopy(model)
    settings = {"lr": 0.1, "rank": 2, "momentum": 0.9}
    groups = [
        {"params": twin[0].parameters(), "rank": None},
        {"params": [*twin[1].parameters(), *twin[2].parameters()]},
    ]
    optimizer, grouped = GaLore(model.named_parameters(), whole=["0.*"], **settings), GaLore(groups, **settings)
    for _ in range(2):
        torch.testing.assert_close(
            run(optimizer, list(model.parameters()), 3),
            run(grouped, list(twin.parameters()), 3),
            rtol=1e-12,
            atol=1e-12,
        )
        assert ["basis" in optimizer.state[p] for p in model.parameters()] == [False, True, False, True, False]
        state = optimizer.state_dict()
        optimizer, grouped, model, twin = copy.deepcopy((optimizer, grouped, model, twin))
    again = copy.deepcopy(model)
    plain = GaLore(again.parameters())
    plain.load_state_dict(copy.deepcopy(state))
    assert torch.equal(run(plain, list(again.parameters()), 3), run(optimizer, list(model.parameters()), 3))
    with pytest.raises(ValueError, match=r"whole: no parameter fits 'head\.\*'; there are 0\.weight, 1\.weight"):
        GaLore(model.named_parameters(), whole=["head.*"])
    with pytest.raises(ValueError, match="give them with their names"):
        GaLore(model.parameters(), whole=["0.*"])
    with pytest.raises(ValueError, match="whole must be a list of names"):
        GaLore([{"params": list(model.named_parameters()), "whole": "0.*"}])


# --- as torch's optimizers ---


@cases
def test_a_resumed_run_has_the_same_bits(case):
    one, two = make_parameters(), make_parameters()
    first = make(case, one)
    run(first, one, 4)
    second = make(case, two)
    with torch.no_grad():
        for p, q in zip(two, one, strict=True):
            p.copy_(q)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(run(first, one, 5, 4), run(second, two, 5, 4))


def test_a_sparse_state_survives_short_types():
    (x,) = make_parameters(dtype=torch.bfloat16, shapes=[(40, 50)])  # bfloat16 has no 1999
    optimizer = GoLore([x], rank=3, subspace="sparse", momentum=0.9)
    run(optimizer, [x], 2)
    (y,) = make_parameters(dtype=torch.bfloat16, shapes=[(40, 50)])
    other = GoLore([y], rank=3, subspace="sparse", momentum=0.9)
    other.load_state_dict(optimizer.state_dict())
    assert torch.equal(other.state[y]["basis"], optimizer.state[x]["basis"])


def test_a_state_brings_its_seed_with_it():
    one, two = make_parameters(), make_parameters()
    first = GoLore(one, rank=2, period=3, seed=5, shared=True, random_from=0)
    run(first, one, 2)
    with torch.no_grad():
        for p, q in zip(two, one, strict=True):
            p.copy_(q)
    second = GaLore(two)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.in_common
    assert torch.equal(run(first, one, 5, 2), run(second, two, 5, 2))


@cases
def test_a_state_goes_on_in_a_shorter_type(case):
    one = make_parameters(dtype=torch.float32)
    first = make(case, one)
    run(first, one, 2)
    two = [nn.Parameter(p.detach().bfloat16()) for p in one]
    second = make(case, two)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    moved = values(two)
    assert not torch.equal(run(second, two, 3, 2), moved)
    held = [v for state in second.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    assert {v.dtype for v in held} <= {torch.bfloat16, torch.int64}


@cases
def test_a_copy_goes_on_alone(case):
    parameters = make_parameters()
    optimizer = make(case, parameters)
    run(optimizer, parameters, 2)
    twin, mirrored = copy.deepcopy((optimizer, parameters))
    assert torch.equal(run(optimizer, parameters, 3, 2), run(twin, mirrored, 3, 2))


@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shorter_types_stay_near(case, dtype):
    exact, short = make_parameters(), make_parameters(dtype=dtype)
    optimizer = make(case, short)
    a, b = run(make(case, exact), exact, 2), run(optimizer, short, 2)
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    assert b.dtype == dtype and {value.dtype for value in held} <= {dtype, torch.int64}
    if dtype == torch.float32:
        torch.testing.assert_close(b.double(), a, rtol=1e-4, atol=1e-4)
    else:
        assert torch.isfinite(b).all()


def test_the_schedule_and_the_closure_are_torchs():
    one, two = make_parameters(), make_parameters()
    a, b = GoLore(one, lr=0.1, rank=2), GoLore(two, lr=0.1, rank=2)
    schedule = optim.lr_scheduler.ExponentialLR(a, 0.5)
    for step in range(3):

        def closure():
            a.zero_grad()
            loss = sum(p.square().sum() for p in one)
            loss.backward()
            return loss

        expected = sum(float(p.detach().square().sum()) for p in one)
        assert float(a.step(closure).detach()) == pytest.approx(expected)
        schedule.step()
        b.param_groups[0]["lr"] = 0.1 * 0.5**step
        for p in two:
            p.grad = 2 * p.detach()
        b.step()
    torch.testing.assert_close(values(one), values(two), rtol=1e-13, atol=0)


def test_what_is_not_finite_ends_in_the_parameters_not_in_an_error():
    (x,) = make_parameters(shapes=[(4, 5)])
    x.grad = torch.full((4, 5), float("nan"), dtype=torch.float64)
    GaLore([x], rank=2).step()
    assert x.isnan().all()


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -1.0}, {"rank": 0}, {"period": 0}, {"scale": 0.0}, {"momentum": 1.0}, {"base": "lion"}, {"eps": -1.0},
        {"betas": (0.9, 1.0)}, {"weight_decay": -1.0}, {"subspace": "thin"}, {"random_from": -1}, {"shared": True},
        {"momentum": 0.5, "base": "adamw"}, {"lr": math.inf}, {"lr": "0.1"}, {"rank": 1.5}, {"period": 2.5},
        {"scale": math.nan}, {"betas": (0.9,)}, {"maximize": 1}, {"random_from": 1.5}, {"seed": 0.5},
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        GaLore(make_parameters(), **settings)
    optimizer = GaLore(make_parameters(shapes=[(3, 4)]))
    with pytest.raises(ValueError, match=next(iter(settings))):
        optimizer.add_param_group({"params": make_parameters(), **settings})
    assert len(optimizer.param_groups) == 1


def test_sparse_gradients_are_refused():
    table = nn.Embedding(5, 4, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="needs dense gradients"):
        GoLore(table.parameters()).step()


class PartlyUsed(nn.Module):
    """Has a layer that is frozen, and one that it does not use."""

    def __init__(self):
        super().__init__()
        make_layer = partial(nn.Linear, 6, 6, bias=False, dtype=torch.float64)
        self.frozen, self.unused, self.first, self.last = (make_layer() for _ in range(4))
        self.frozen.weight.requires_grad_(False)

    def forward(self, x):
        return self.last(self.first(self.frozen(x)).tanh())


@pytest.mark.parametrize("way", ["step", "in the backward pass", "refresh ahead"])
@pytest.mark.parametrize("kind", [GaLore, GoLore])
def test_what_is_frozen_or_not_used_is_left_alone(kind, way):
    torch.manual_seed(0)
    model = PartlyUsed()
    twin = copy.deepcopy(model)
    settings = {"lr": 0.1, "rank": 2, "period": 3, "momentum": 0.9}
    optimizer, expected = kind(model.parameters(), **settings), kind(twin.parameters(), **settings)
    if way == "in the backward pass":
        assert len(optimizer.step_in_backward()) == 3
    inputs, due = torch.randn(4, 6, dtype=torch.float64), []
    frozen, unused = model.frozen.weight.detach().clone(), model.unused.weight.detach().clone()
    for step in range(8):
        due.append(optimizer.refresh_due)
        if way == "refresh ahead" and step:
            optimizer.refresh()
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        if way != "in the backward pass":
            optimizer.step()
        # The same with gradients that autograd has not told apart: only what is used has any.
        used = [twin.first.weight, twin.last.weight]
        for p, g in zip(used, torch.autograd.grad(twin(inputs).square().sum(), used), strict=True):
            p.grad = g
        expected.step()
    assert due == [step % 3 == 0 for step in range(8)]
    assert torch.equal(model.frozen.weight, frozen) and torch.equal(model.unused.weight, unused)
    assert set(optimizer.state) == {model.first.weight, model.last.weight}
    torch.testing.assert_close(values(model.parameters()), values(twin.parameters()), rtol=1e-12, atol=1e-13)


def test_what_is_frozen_does_not_change_the_draws_of_others():
    one, two = make_parameters(shapes=[(6, 9)] * 3), make_parameters(shapes=[(6, 9)] * 3)
    one[0].requires_grad_(False)
    a, b = GoLore(one, rank=2), GoLore(two, rank=2)
    run(a, one, 2)
    run(b, two, 2)
    assert torch.equal(values(one[1:]), values(two[1:])) and not torch.equal(one[0], two[0])


def test_layers_that_join_are_due_from_their_first_step():
    first, later = make_parameters(shapes=[(6, 9)] * 2)
    optimizer = GaLore([first], rank=2, period=5)
    run(optimizer, [first], 2)
    assert not optimizer.refresh_due
    optimizer.add_param_group({"params": [later]})
    assert optimizer.refresh_due
    run(optimizer, [first, later], 1)
    assert not optimizer.refresh_due


@pytest.mark.parametrize("side", [(60, 90), (90, 60)])
def test_a_step_makes_nothing_of_the_size_of_the_parameters(side, sizes_made):
    agents, rank = 4, 3
    x = nn.Parameter(torch.zeros(agents, *side))
    optimizer = GoLore([x], rank=rank, agents=agents, weight_decay=0.1, momentum=0.9, maximize=True)
    x.grad = torch.ones_like(x)
    optimizer.step()
    with sizes_made() as sizes:
        optimizer.step()
    assert 0 < max(sizes.made) <= agents * rank * 90


# --- memory ---


@pytest.mark.parametrize("kind", [GaLore, GoLore])
@pytest.mark.parametrize("subspace", ["low_rank", "sparse"])
@pytest.mark.parametrize(("base", "momentum", "copies"), [("sgd", 0.0, 0), ("sgd", 0.9, 1), ("adamw", 0.0, 2)])
def test_the_state_takes_the_memory_of_its_formula(kind, subspace, base, momentum, copies):
    shapes, rank = [(6, 9), (9, 6), (8, 2, 3, 3), (7,)], 2
    parameters = make_parameters(dtype=torch.float32, shapes=shapes)
    optimizer = kind(parameters, rank=rank, base=base, momentum=momentum, subspace=subspace, period=2)
    run(optimizer, parameters, 5)
    held = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    found = sum(v.untyped_storage().nbytes() for v in {v.data_ptr(): v for v in held}.values())
    sides = [(6, 9), (6, 9), (8, 18)]
    coordinates = sum(rank * long for _, long in sides)
    projection = 4 * sum(short * rank for short, _ in sides) if subspace == "low_rank" else 8 * coordinates
    assert found == projection + 4 * copies * (coordinates + 7)


@pytest.mark.parametrize("kind", [GaLore, GoLore])
def test_stepping_in_the_backward_pass_holds_one_gradient_at_a_time(kind):
    torch.manual_seed(0)
    layers = [nn.Linear(16, 16, bias=False, dtype=torch.float64) for _ in range(6)]
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))
    twin = copy.deepcopy(model)
    optimizer, other = (kind(m.parameters(), rank=3, period=2, momentum=0.9, lr=0.1) for m in (model, twin))
    most, parameters = [0], list(model.parameters())

    def look(_):
        live = sum(p.grad.untyped_storage().nbytes() for p in parameters if p.grad is not None)
        most[0] = max(most[0], live)

    for p in parameters:  # the first hook on a gradient that has just come
        p.register_post_accumulate_grad_hook(look)
    handles = optimizer.step_in_backward()
    inputs = torch.randn(4, 16, dtype=torch.float64)
    for _ in range(5):
        model(inputs).square().sum().backward()
        assert all(p.grad is None for p in parameters)
        other.zero_grad()
        twin(inputs).square().sum().backward()
        other.step()
    assert most[0] == 16 * 16 * 8
    torch.testing.assert_close(values(model.parameters()), values(twin.parameters()), rtol=1e-12, atol=1e-13)
    for handle in handles:
        handle.remove()
    model(inputs).square().sum().backward()
    assert all(p.grad is not None for p in parameters)


# --- agents ---

N, LAYERS = 3, ((4, 6), (6, 4), (5,), (4, 2, 3))
SIZES = [math.prod(shape) for shape in LAYERS]


def split(flat):
    return [part.view(len(flat), *shape) for part, shape in zip(flat.split(SIZES, dim=1), LAYERS, strict=True)]


def stack(case, x, keys, **more):
    kind, settings = CASES[case]
    settings = {"lr": 0.05, "rank": 2, "period": 3} | settings | more
    return LocalOptimizer(lambda p, **given: kind(p, **settings, **given), kind, x, split, keys)


@pytest.mark.parametrize(
    ("case", "shared"), [*((case, False) for case in CASES), *((c, True) for c in CASES if c.startswith("golore"))]
)
def test_stacked_agents_are_as_many_optimizers(case, shared):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, sum(SIZES), dtype=torch.float64, generator=generator)
    keys = torch.tensor([[1, 9], [2, 9], [3, 9]])
    together = stack(case, x, keys, shared=shared)
    alone = [[nn.Parameter(layer[n].clone()) for layer in split(x)] for n in range(N)]
    kind, settings = CASES[case]
    settings = {"lr": 0.05, "rank": 2, "period": 3, "shared": shared} | settings
    twins = [kind(parameters, keys=keys[n : n + 1], **settings) for n, parameters in enumerate(alone)]
    for _ in range(8):
        g = torch.randn(N, sum(SIZES), dtype=torch.float64, generator=generator)
        together.step(g, 1.0)
        for n, twin in enumerate(twins):
            for p, layer in zip(alone[n], split(g), strict=True):
                p.grad = layer[n]
            twin.step()
        for n in range(N):
            torch.testing.assert_close(x[n], values(alone[n]), rtol=1e-12, atol=1e-12)
    bases = [held["basis"] for held in together.optimizers[0].state.values() if "basis" in held]
    assert len(bases) == 3
    assert all(torch.equal(basis[0], basis[1]) == shared for basis in bases)


@cases
def test_the_state_of_agents_can_be_saved_and_dealt_out_again(case):
    x = torch.randn(N, sum(SIZES), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keys = torch.arange(2 * N).view(N, 2)
    g = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).view_as(x).sin()
    whole = stack(case, x, keys)
    for _ in range(4):
        whole.step(g.roll(1, 0), 1.0)
    saved = whole.state_dict()
    rows = {
        place: {name: value[1:] for name, value in held.items()} for place, held in saved["rows"]["together"].items()
    }
    y = x[1:].clone()
    part = stack(case, y, keys[1:])
    part.load_state_dict({"rows": {"together": rows}, "shared": saved["shared"]})
    for _ in range(4):
        whole.step(g, 0.5)
        part.step(g[1:], 0.5)
    assert torch.equal(x[1:], y)


def test_a_basis_is_neither_mixed_nor_reset():
    x = torch.zeros(N, sum(SIZES), dtype=torch.float64)
    optimizer = stack("golore with momentum", x, torch.arange(2 * N).view(N, 2))
    optimizer.step(torch.ones_like(x), 1.0)
    shapes = {tuple(tensor.shape[1:]) for tensor in optimizer.rows()}
    assert shapes == {(2, 6), (5,)}


def remembered(optimizer):
    """Everything that leads with the agents' axis, what is neither mixed nor reset included."""
    rows = optimizer.state_dict()["rows"]["together"]
    return [tensor for held in rows.values() for tensor in held.values()]


@pytest.mark.parametrize("case", ["galore", "golore with momentum", "golore sparse adamw"])
def test_agents_that_rest_keep_their_subspaces_with_their_momentum(case):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, sum(SIZES), dtype=torch.float64, generator=generator)
    optimizer = stack(case, x, torch.arange(2 * N).view(N, 2))
    resting = {0: 1, 3: 2, 4: 2}  # at the first step, and across the choice of other subspaces
    for step in range(7):
        active = torch.ones(N, dtype=torch.bool)
        if step in resting:
            active[resting[step]] = False
        before, held = x.clone(), [tensor.clone() for tensor in remembered(optimizer)]
        optimizer.step(torch.randn(N, sum(SIZES), dtype=torch.float64, generator=generator), 1.0, active)
        for n in range(N):
            assert torch.equal(x[n], before[n]) != bool(active[n])
            if held and not active[n]:
                now = remembered(optimizer)
                assert all(torch.equal(a[n], b[n]) for a, b in zip(held, now, strict=True))
