"""Groups of parameters with settings of their own: as one of torch's optimizers with groups for each agent."""

from functools import partial

import pytest
import torch
from torch import nn, optim

from basinet.algorithms.optimizers import (
    ANSGDC,
    LOZOM,
    NSGDC,
    NSGDCVR,
    ClippedSGD,
    GaLore,
    LocalOptimizer,
    MeZO,
    OptimizerTraits,
)
from basinet.algorithms.optimizers.parameter_groups import Columns, divide

N = 3
SHAPES = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (2, 4), "1.bias": (2,), "head": (5,)}
SIZES = [torch.Size(shape).numel() for shape in SHAPES.values()]
GROUPS = ({"match": ["*.bias"], "lr": 0.03}, {"match": ["1.*", "0.bias"], "lr": 0.2})
FLAT = (NSGDC, NSGDCVR, ANSGDC, ClippedSGD)


def split(flat):
    parts = flat.split(SIZES, dim=1)
    return [part.view(len(flat), *shape) for part, shape in zip(parts, SHAPES.values(), strict=True)]


def make(kind, x, settings, groups, keys=None):
    def factory(params, group=None, **more):
        return kind(params, **(more | settings | dict(group or {})))

    return LocalOptimizer(factory, kind, x, split, keys, list(SHAPES), divide(groups, list(SHAPES)))


class Assigning(optim.Optimizer):
    """One for each agent, and no elementwise one: each tensor's gradient is normalised, and its data replaced."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data = p.data - group["lr"] * p.grad / p.grad.norm()


class FlatSigns(optim.Optimizer):
    """A user's optimizer of all agents' parameters at once, which replaces their data."""

    traits = OptimizerTraits(stacked="flat")

    def __init__(self, params, lr=0.1, agents=None):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data = p.data - group["lr"] * p.grad.sign()


def test_layers_go_to_the_first_group_that_matches():
    assert divide(GROUPS, list(SHAPES)) == [({"lr": 0.03}, [1, 3]), ({"lr": 0.2}, [2]), ({}, [0, 4])]


def test_columns_are_gathered_and_scattered():
    flat = torch.arange(2.0 * sum(SIZES)).view(2, -1)
    columns = Columns([[1, 3], [2], [0, 4]], SIZES)
    parts, back = columns.gather(flat), torch.zeros_like(flat)
    assert [part.shape[1] for part in parts] == [6, 8, 17] and all(part.is_contiguous() for part in parts)
    assert torch.equal(parts[0], flat[:, [*range(12, 16), 24, 25]])
    columns.scatter(parts, back)
    assert torch.equal(back, flat)


CASES = {
    "sgd": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}, {"weight_decay": 0.0}),
    "adamw": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.3}, {"betas": (0.5, 0.7)}),
    "rmsprop": (optim.RMSprop, {"lr": 0.1}, {"alpha": 0.5}),
    "one each": (Assigning, {"lr": 0.1}, {}),
    "own, flat": (FlatSigns, {"lr": 0.1}, {}),
    "nsgdc": (NSGDC, {"lr": 0.1, "clip": 0.5}, {"momentum": 0.5, "weight_decay": 0.1}),
    "clipped": (ClippedSGD, {"lr": 0.1, "clip": 0.5}, {"clip": 0.1}),
    "galore": (GaLore, {"lr": 0.1, "rank": 2, "momentum": 0.9}, {"rank": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_agent_steps_as_alone_with_groups(name):
    kind, settings, own = CASES[name]
    groups = [GROUPS[0] | own, GROUPS[1]]
    torch.manual_seed(0)
    x = torch.randn(N, sum(SIZES), dtype=torch.float64)
    local = make(kind, x, settings, groups)
    alone, agents = [], []
    for n in range(N):
        layers = {name: nn.Parameter(view[n].clone()) for name, view in zip(SHAPES, split(x), strict=True)}
        named = [[(list(SHAPES)[i], layers[list(SHAPES)[i]]) for i in members] for _, members in divide(groups, SHAPES)]
        bare = named if kind is GaLore else [[p for _, p in part] for part in named]
        given = [{"params": p, **g} for p, (g, _) in zip(bare, divide(groups, list(SHAPES)), strict=True)]
        alone.append(kind(given, **settings))
        agents.append(list(layers.values()))
    for t in range(4):
        g = torch.randn_like(x)
        # The bias correction of Adam counts the steps of all agents.
        active = torch.tensor([True, t != 1, True]) if t and kind is not optim.AdamW else None
        if t == 2:  # through a checkpoint
            saved = local.state_dict()
            local = make(kind, x, settings, groups)
            local.load_state_dict(saved)
        local.step(g.clone(), 0.5 + t, active)
        for n in range(N):
            for layer, part in zip(agents[n], split(g), strict=True):
                layer.grad = part[n].clone()
            for group, base in zip(alone[n].param_groups, (0.03, 0.2, settings["lr"]), strict=True):
                group["lr"] = base * (0.5 + t)
            if active is None or active[n]:
                alone[n].step()
            flat = torch.cat([p.detach().flatten() for p in agents[n]])
            torch.testing.assert_close(x[n], flat, rtol=1e-12, atol=1e-12)


def quadratic(x, target, write):
    """Return a closure of the losses ½ ‖x − target‖², which writes the gradients if asked."""

    def evaluate():
        if write is not None:
            write.copy_(x - target)
        return 0.5 * (x - target).square().sum(1)

    return evaluate


@pytest.mark.parametrize("kind", [NSGDCVR, ANSGDC, MeZO, partial(LOZOM, rank=1, period=2)])
def test_optimizers_that_evaluate_have_groups(kind):
    maker = getattr(kind, "func", kind)
    torch.manual_seed(0)
    start, target = (torch.randn(N, sum(SIZES), dtype=torch.float64) for _ in range(2))
    keys = torch.arange(2 * N).view(N, 2)
    still, ends = [{"match": ["*.bias"], "lr": 0.0}], []
    for groups in ([], still):
        x = start.clone()
        settings = {"lr": 1e-2} | getattr(kind, "keywords", {})
        local = make(maker, x, settings, groups, keys)
        assert local.evaluates
        gradients = torch.zeros_like(x)
        for _ in range(3):
            held = x.clone()
            evaluate = quadratic(x, target, None if local.derivative_free else gradients)
            found = local.prepare(evaluate, gradients, 1.0)
            assert torch.equal(x, held)
            local.step(found, 1.0)
        ends.append(x)
    biases = torch.zeros(sum(SIZES), dtype=torch.bool)
    biases[[*range(12, 16), 24, 25]] = True
    assert torch.equal(ends[1][:, biases], start[:, biases])  # a group at rate zero stays where it is
    assert not (ends[1][:, ~biases] == start[:, ~biases]).any()
    if maker in FLAT:  # the norm is over all groups: only the rate of the still ones differs, so far
        x = start.clone()
        local = make(maker, x, {"lr": 1e-2}, [], keys)
        gradients = torch.zeros_like(x)
        local.step(local.prepare(quadratic(x, target, gradients), gradients, 1.0), 1.0)
        y = start.clone()
        local = make(maker, y, {"lr": 1e-2}, still, keys)
        local.step(local.prepare(quadratic(y, target, gradients), gradients, 1.0), 1.0)
        torch.testing.assert_close(x[:, ~biases], y[:, ~biases], rtol=1e-12, atol=1e-14)
