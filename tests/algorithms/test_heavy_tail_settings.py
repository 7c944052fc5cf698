"""Settings for heavy-tailed noise: they balance the bounds, and the balance falls at the stated rate."""

import math

import pytest
import torch
from torch import nn

from basinet.algorithms.optimizers import (
    OPTIMIZERS,
    TUNINGS,
    OptimizerTraits,
    heavy_tail_rate,
    heavy_tail_settings,
)
from basinet.algorithms.optimizers.tunings import tuned_settings

P = [1.2, 1.5, 1.8, 2.0]
L, GAP, SIGMA, HESSIAN = 2.0, 21.7, 0.7, 2.9

# The bound on the mean gradient norm: descent, bias of the momentum, noise of the momentum.
BIAS = {
    "nsgdm": lambda lr, alpha, p: L * lr / alpha,
    "nsgdc": lambda lr, alpha, p: L * lr / alpha,
    "nsgdc_vr": lambda lr, alpha, p: L * lr * alpha ** (-1 / p),
    "bounded": lambda lr, alpha, p: L * lr * alpha**-0.5,
    "a_nsgdc": lambda lr, alpha, p: HESSIAN * (lr / alpha) ** 2 + L * lr,
}


def settings_of(name, steps, p, sigma=SIGMA):
    method = "nsgdc_vr" if name == "bounded" else name
    more = {"hessian_lipschitz": HESSIAN} if method == "a_nsgdc" else {}
    more |= {"bounded_differences": True} if name == "bounded" else {}
    return heavy_tail_settings(method, steps=steps, p=p, sigma=sigma, smoothness=L, gap=GAP, **more)


def rate_of(name, p):
    return heavy_tail_rate("nsgdc_vr" if name == "bounded" else name, p, bounded_differences=name == "bounded")


def bound(name, steps, p):
    found = settings_of(name, steps, p)
    alpha = 1 - found["momentum"]
    return [GAP / (found["lr"] * steps), BIAS[name](found["lr"], alpha, p), SIGMA * alpha ** ((p - 1) / p)]


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("name", BIAS)
def test_every_term_of_the_bound_falls_at_the_rate(name, p):
    early, late = (bound(name, steps, p) for steps in (10**10, 10**12))
    slopes = [math.log(b / a) / math.log(100) for a, b in zip(early, late, strict=True)]
    # 1 − θ loses digits where it is small; the step's own term of the accelerated method falls faster.
    assert slopes == pytest.approx([rate_of(name, p)] * 3, abs=0.005)


def test_rates_are_those_published():
    rates = {name: [round(-rate_of(name, p), 3) for p in P] for name in ("nsgdc", "nsgdc_vr", "a_nsgdc")}
    assert rates == {
        "nsgdc": [0.125, 0.2, 0.235, 0.25],
        "nsgdc_vr": [0.143, 0.25, 0.308, 0.333],
        "a_nsgdc": [0.133, 0.222, 0.267, 0.286],
    }
    assert heavy_tail_rate("nsgdm", 1.5, known=False) == pytest.approx(-1 / 6)
    assert rate_of("bounded", 2.0) == pytest.approx(-1 / 3)


@pytest.mark.parametrize("name", [*BIAS, "nsgd"])
def test_without_noise_all_take_the_steps_of_gradient_descent(name):
    for steps in (1000, 100_000):
        found = settings_of(name, steps, 1.5, sigma=0.0)
        assert found["lr"] == pytest.approx(math.sqrt(GAP / (L * steps))) and found["momentum"] == 0
        assert found.get("clip", math.inf) >= 2 * math.sqrt(2 * L * GAP)


def test_thresholds_grow_as_the_theory_says():
    for p in P:
        for name, power in (("nsgdc", 1 / (3 * p - 2)), ("a_nsgdc", 2 / (5 * p - 3)), ("clipped_sgd", 1 / (3 * p - 2))):
            early, late = (settings_of(name, steps, p)["clip"] for steps in (10**28, 10**30))
            assert math.log(late / early) / math.log(100) == pytest.approx(power, abs=0.005)
    lr = [settings_of("clipped_sgd", steps, 1.5)["lr"] for steps in (10**6, 10**8)]
    assert math.log(lr[1] / lr[0]) / math.log(100) == pytest.approx(-1.5 / 2.5)


def test_without_p():
    found = heavy_tail_settings("nsgdm", steps=10_000, p=None, smoothness=L, gap=GAP)
    assert found["momentum"] == pytest.approx(0.99)
    assert found["lr"] == pytest.approx(math.sqrt(GAP / L) * 10_000**-0.75)


def made(name, **settings):
    kind = OPTIMIZERS[name]
    chosen = tuned_settings(OptimizerTraits.of(kind).tuning, settings, 10)
    return kind([nn.Parameter(torch.zeros(1))], **chosen)


def test_optimizers_take_them():
    tuned = {"steps": 1000, "p": 1.5, "sigma": SIGMA, "smoothness": L, "gap": GAP}
    for name in ("nsgd", "nsgdm", "nsgdc", "nsgdc_vr", "clipped_sgd", "a_nsgdc"):
        more = {"hessian_lipschitz": HESSIAN} if name == "a_nsgdc" else {}
        optimizer = made(name, tuned=tuned | more)
        expected = heavy_tail_settings(name, **tuned, **more)
        assert expected.items() <= optimizer.param_groups[0].items()


@pytest.mark.parametrize(
    ("name", "method", "more", "equal"),
    [
        ("known_p", "nsgdc", {"p": 1.5, "sigma": 0.3}, {"p": 1.5, "sigma": 0.3}),
        ("known_p", "nsgdc_vr", {"p": 1.5, "bounded_differences": True}, {"p": 1.5, "bounded_differences": True}),
        ("known_p", "nsgdm", {}, {"p": 2.0}),
        ("unknown_p", "nsgdm", {"smoothness": 3.0}, {"p": None, "smoothness": 3.0}),
        ("noiseless", "nsgd", {"gap": 2.0}, {"sigma": 0.0, "gap": 2.0}),
    ],
)
def test_tunings_have_names(name, method, more, equal):
    optimizer = made(method, tuned={"name": name, "steps": 1000, **more})
    expected = heavy_tail_settings(method, steps=1000, **equal)
    assert expected.items() <= optimizer.param_groups[0].items()
    assert TUNINGS[name](method, steps=1000, **more) == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 10, "p": 1.0}, r"p must be in \(1, 2\]"),
        ({"steps": 10, "p": None}, "nsgdc needs p; nsgdm does without"),
        ({"steps": 10, "sigma": -1}, "sigma must be at least 0"),
        ({"steps": 10, "gap": 0}, "gap must be above 0"),
        ({"steps": 10, "gradient": -4.0}, "gradient must be above 0, got -4.0"),
        ({"steps": 10, "sigma": 0.0, "gradient": 0}, "gradient must be above 0, got 0"),
        ({"steps": 10, "hessian_lipschitz": 1.0}, "hessian_lipschitz .* for it alone"),
        ({"steps": 10, "bounded_differences": True}, "bounded_differences is for nsgdc_vr alone"),
        ({"steps": "many"}, "steps must be a number, got 'many'"),
        ({"steps": 10, "p": [1.5]}, r"p must be a number, got \[1.5\]"),
        ({"steps": 10, "sigma": None}, "sigma must be a number, got None"),
        (10, "tuned must name arguments of heavy_tail_settings, such as steps, got 10"),
        ({"step": 10}, "tuned: .*unexpected keyword argument 'step'"),
        ("known", "tuned must be one of known_p, noiseless, unknown_p, got 'known'"),
        ({"name": "unknown_p", "steps": 10}, "nsgdc needs p; nsgdm does without"),
        ({"name": "unknown_p", "steps": 10, "p": 1.5}, "tuned: .*multiple values for keyword argument 'p'"),
    ],
)
def test_what_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        made("nsgdc", tuned=settings)
    with pytest.raises(ValueError, match="nsgd has no rate"):
        heavy_tail_rate("nsgd", 1.5)


@pytest.mark.parametrize("name", ["known_p", "unknown_p"])
def test_without_momentum_there_are_no_settings_for_noise(name):
    for sigma in ({}, {"sigma": 0.1}):
        with pytest.raises(ValueError, match=r"nsgd has no settings for noise: allowed are nsgdm, .* or sigma=0"):
            made("nsgd", tuned={"name": name, "steps": 100, **sigma})
    optimizer = made("nsgd", tuned={"name": name, "steps": 100, "sigma": 0.0})
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["nsgd", "nsgdm", "nsgdc", "nsgdc_vr", "clipped_sgd"])
def test_settings_are_tuned_or_given(name):
    for setting in ("lr", "clip" if name == "clipped_sgd" else "momentum"):
        with pytest.raises(ValueError, match=f"tuned chooses lr, .* leave out either tuned or {setting}=0.1"):
            made(name, tuned={"steps": 10}, **{setting: 0.1})
    defaults = {"nsgd": (0.0, math.inf), "nsgdm": (0.9, math.inf), "clipped_sgd": (None, 1.0)}
    group = made(name).param_groups[0]
    assert (group.get("momentum"), group["clip"]) == defaults.get(name, (0.9, 1.0)) and group["lr"] == 0.01
