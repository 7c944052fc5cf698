"""Schedules of the learning rate: against closed forms, and against torch's schedulers."""

import inspect
import math

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from basinet.algorithms.schedules import (
    SCHEDULES,
    constant,
    cosine,
    cosine_restarts,
    inverse_sqrt,
    linear,
    one_cycle,
    plateau,
    polynomial,
    step,
)

T = 40
EARLIER = {"evaluations": {}}


def of_torch(scheduler, count=T):
    """Return the factors of one of torch's schedulers at the first steps."""
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, factors = scheduler(optimizer), []
    for _ in range(count):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return factors


@pytest.mark.parametrize(
    ("ours", "theirs"),
    {
        "linear": (
            lambda t: linear(t, T, final=0.1),
            lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=T),
        ),
        "polynomial": (
            lambda t: polynomial(t, T, power=1.7),
            lambda o: lr_scheduler.PolynomialLR(o, total_iters=T, power=1.7),
        ),
        "cosine": (
            lambda t: cosine(t, T, final=0.1),
            lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=T, eta_min=0.1),
        ),
        "step": (
            lambda t: step(t, T, gamma=0.3),
            lambda o: lr_scheduler.MultiStepLR(o, [T // 2, 3 * T // 4], gamma=0.3),
        ),
        "restarts": (
            lambda t: cosine_restarts(t, T, period=4, growth=2, final=0.1),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=4, T_mult=2, eta_min=0.1),
        ),
        "equal restarts": (
            lambda t: cosine_restarts(t, T, period=7, growth=1),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=7),
        ),
        "one cycle": (
            lambda t: one_cycle(t, T),
            lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=T, cycle_momentum=False),
        ),
        "straight cycle": (
            lambda t: one_cycle(t, T, rise=0.4, start=0.1, final=0.01, anneal="linear"),
            lambda o: lr_scheduler.OneCycleLR(
                o, 1.0, T, pct_start=0.4, anneal_strategy="linear", cycle_momentum=False, div_factor=10,
                final_div_factor=10,
            ),
        ),
    }.values(),
)  # fmt: skip
def test_schedules_are_those_of_torch(ours, theirs):
    wanted = of_torch(theirs, T - 1)  # torch's one-cycle scheduler refuses to step beyond the last step
    assert [ours(t) for t in range(T - 1)] == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_schedules_start_and_end_where_they_say():
    assert constant(0, 10) == constant(9, 10) == 1.0
    assert [step(t, 100) for t in (49, 50, 75)] == pytest.approx([1, 0.1, 0.01])
    for falling in (cosine, linear, polynomial):
        assert falling(0, 100) == 1.0
        assert falling(100, 100, final=0.2, warmup=0.25) == pytest.approx(0.2)
    assert [one_cycle(t, 10, rise=0.4, start=0.1, final=0.01) for t in (0, 3, 9)] == pytest.approx([0.1, 1, 0.01])
    assert inverse_sqrt(30, 100, timescale=10) == pytest.approx(0.5)
    assert inverse_sqrt(4 + 30, 100, timescale=10, warmup=4) == pytest.approx(0.5)
    assert inverse_sqrt(10_000, 100) == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"one_cycle"}))
@pytest.mark.parametrize("warmup", [4, 0.004])
def test_schedules_warm_up_over_steps_or_a_fraction(name, warmup):
    supplied = EARLIER if "evaluations" in inspect.signature(SCHEDULES[name]).parameters else {}
    ramp = [SCHEDULES[name](t, 1000, warmup=warmup, **supplied) for t in range(5)]
    assert ramp == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("first", [[], [math.nan], [math.inf, math.nan], [math.inf, math.inf, math.nan, math.nan]])
@pytest.mark.parametrize("larger", [False, True])
def test_the_plateau_is_that_of_torch(first, larger):
    values = [*first, 1.0, 0.9, 0.9, 0.89999, 0.9, 0.5, 0.6, 0.7, 0.6, 0.55, 0.5, math.nan, 0.5, 0.5, 0.49]
    values = [2 - v for v in values] if larger else values
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    settings = {"factor": 0.5, "patience": 1, "threshold": 1e-3}
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, "max" if larger else "min", min_lr=0.2, **settings)
    for count, value in enumerate(values, 1):
        theirs.step(value)
        seen = {"accuracy": [-v if larger else v for v in values[:count]]}
        factor = plateau(7, 10, seen, metric="accuracy", final=0.2, **settings)
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"])
    assert factor == 0.2
    with pytest.raises(ValueError, match="'loss' is not measured; allowed: accuracy"):
        plateau(7, 10, seen, metric="loss")
