"""Laws of noise against closed forms: moments, quantiles, and what tasks make of them."""

import math

import pytest
import torch
from scipy import integrate, stats

from basinet.algorithms.draws import fold, key
from basinet.sim.tasks import Noise, quadratic, ripples

F64 = torch.float64
LAWS = {
    "gaussian": Noise(),
    "student": Noise(law="student", tail=2.5, p=1.7),
    "pareto": Noise(law="pareto", tail=1.6, p=1.5),
    "skewed_pareto": Noise(law="skewed_pareto", tail=1.6, p=1.5),
    "stable": Noise(law="stable", tail=1.7, p=1.3),
}
EXACT = {
    "gaussian": stats.norm(),
    "student": stats.t(2.5),
    "pareto": None,  # two-sided: scipy has one side
    "skewed_pareto": stats.pareto(1.6, loc=-1.6 / 0.6),
    "stable": stats.levy_stable(1.7, 0.0),
}


def keys(count, seed=0):
    return fold(torch.tensor(key(seed, "noise")), torch.arange(count))


def two_sided_pareto(x):
    tail = 0.5 * abs(x) ** -1.6 if abs(x) >= 1 else 0.5
    return tail if x < 0 else 1 - tail


@pytest.mark.parametrize("name", LAWS)
def test_draws_have_the_quantiles_of_their_law(name):
    law, n = LAWS[name], 200_000
    drawn = (law.numbers(keys(20), (n // 20,)) / law.unit).flatten().sort().values
    for quantile in (0.001, 0.05, 0.25, 0.5, 0.75, 0.95, 0.999):
        x = float(drawn[int(quantile * n)])
        reached = two_sided_pareto(x) if EXACT[name] is None else float(EXACT[name].cdf(x))
        assert reached == pytest.approx(quantile, abs=5 * math.sqrt(quantile * (1 - quantile) / n))


@pytest.mark.parametrize("name", LAWS)
def test_moments_are_those_of_the_density(name):
    law = LAWS[name]
    for p in (0.5, 1.0, 1.2):
        if name == "pareto":
            a, expected = law.index, integrate.quad(lambda x, p=p: 1.6 * x ** (p - 2.6), 1, math.inf)[0]
            assert a == 1.6
        elif name == "stable":  # E|X|^p from the characteristic function exp(−|t|^a), for p < 2
            constant = p / (math.gamma(1 - p) * math.cos(math.pi * p / 2)) if p != 1 else 2 / math.pi
            # the integral converges at both ends; its parts are 1 − exp(−t^a) ~ t^a below and 1 above
            integral = sum(
                integrate.quad(lambda t, p=p: -math.expm1(-(t**1.7)) * t ** (-1 - p), *part, limit=200)[0]
                for part in ((0, 1), (1, math.inf))
            )
            expected = constant * integral
        else:
            density, low = EXACT[name].pdf, -1.6 / 0.6 + 1 if name == "skewed_pareto" else -math.inf
            parts = ((low, 0), (0, math.inf))
            expected = sum(
                integrate.quad(lambda x, p=p, density=density: abs(x) ** p * density(x), *part, limit=500)[0]
                for part in parts
            )
        assert law.raw_moment(p) == pytest.approx(expected, rel=2e-3 if p > 1 else 1e-4)
    assert law.raw_moment(law.index) == math.inf
    assert law.unit**law.p * law.raw_moment(law.p) == pytest.approx(1)


@pytest.mark.parametrize("tail", [6.0, 343.0, 344.0, 1e5, 1e12, 1e20])
def test_student_noise_of_many_degrees_of_freedom_becomes_gaussian(tail):
    law, p4 = Noise(law="student", tail=tail), Noise(law="student", tail=tail, p=4.0)
    assert law.raw_moment(2.0) == pytest.approx(tail / (tail - 2), rel=1e-12)
    assert p4.raw_moment(4.0) == pytest.approx(3 * (tail / (tail - 2)) * (tail / (tail - 4)), rel=1e-12)
    drawn = law.numbers(keys(20), (10_000,)).flatten().sort().values
    exact, n = stats.t(tail) if tail < 1e10 else stats.norm(), len(drawn)
    for quantile in (0.05, 0.25, 0.75, 0.95):
        reached = float(exact.cdf(float(drawn[int(quantile * n)]) / law.unit))
        assert reached == pytest.approx(quantile, abs=5 * math.sqrt(quantile * (1 - quantile) / n))


def test_the_mean_of_skewed_noise_is_zero_and_its_median_is_not():
    assert Noise(law="skewed_pareto", tail=1.5, p=1.2).median / Noise(
        law="skewed_pareto", tail=1.5, p=1.2
    ).unit == pytest.approx(-1.4126, abs=1e-4)
    law = Noise(law="skewed_pareto", tail=4.0)
    drawn = law.numbers(keys(100), (10_000,))
    assert float(drawn.mean()) == pytest.approx(0, abs=5e-3)  # five standard errors
    assert float(drawn.median()) == pytest.approx(law.median, abs=5e-3)
    assert float(drawn.square().mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", [name for name in LAWS if name != "skewed_pareto"])
def test_radial_noise_has_its_size_in_every_direction(name):
    settings = {field: getattr(LAWS[name], field) for field in ("law", "tail", "p")}
    law = Noise(**settings, shape="radial")
    s = law.vectors(keys(50), 400, 3)
    norms = torch.linalg.vector_norm(s, dim=-1)
    alone = law.numbers(keys(50), (400, 1)).abs().squeeze(-1)
    torch.testing.assert_close(norms, alone)  # and E|X|^p = 1
    unit = (s / norms[..., None]).flatten(0, 1)
    assert unit.mean(0).abs().max() < 5 / math.sqrt(3 * len(unit))
    torch.testing.assert_close(unit.T @ unit / len(unit), torch.eye(3, dtype=F64) / 3, atol=0.015, rtol=0)


def test_noise_on_a_line_is_along_the_diagonal():
    law = Noise(law="skewed_pareto", tail=1.5, p=1.2, shape="line")
    s = law.vectors(keys(5), 7, 4)
    torch.testing.assert_close(s[..., 0] * 2, law.numbers(keys(5), (7, 1)).squeeze(-1))
    assert torch.equal(s, s[..., :1].expand_as(s))


@pytest.mark.parametrize("shape", ["coordinates", "radial", "line"])
def test_tasks_have_the_stated_covariance(shape):
    noise = {"law": "student", "tail": 9.0, "size": 2.0, "shape": shape}
    task = quadratic(curvature=[1.0, 2.0], noise=noise)
    _, targets = task.draw(keys(200), torch.zeros(200, dtype=torch.int64), 1000, F64)
    torch.testing.assert_close(targets.flatten(0, 1).T.cov(), task.noise_covariance, atol=0.06, rtol=0)
    infinite = quadratic(curvature=[1.0], noise={"law": "pareto", "tail": 1.6, "p": 1.5})
    assert infinite.noise_covariance.tolist() == [[math.inf]]


def test_multiplicative_noise_scales_loss_and_gradient():
    noise = {"law": "pareto", "tail": 1.6, "p": 1.5, "size": 0.5, "multiplicative": 0.3}
    task = ripples(dimension=3, noise=noise)
    inputs, targets = task.draw(keys(2), torch.zeros(2, dtype=torch.int64), 5, torch.float32)
    assert targets.shape == (2, 5, 4) and inputs.dtype == torch.float32
    w = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(
        task.to("cpu", torch.float32).objective(lambda _: w.expand(5, 3), (0, targets[0])), w
    )
    expected = (1 + targets[0, :, 3:]) * task.gradient(w.detach()) + targets[0, :, :3]
    torch.testing.assert_close(gradient, expected.mean(0))
    additive = ripples(dimension=3, noise=noise | {"multiplicative": 0.0})
    assert torch.equal(additive.draw(keys(2), torch.zeros(2, dtype=torch.int64), 5, torch.float32)[1], targets[..., :3])


def test_a_number_stays_the_variance_of_gaussian_noise():
    plain, named = quadratic(noise=4.0), quadratic(noise={"size": 2.0})
    agents = torch.zeros(3, dtype=torch.int64)
    torch.testing.assert_close(plain.draw(keys(3), agents, 2, F64)[1], named.draw(keys(3), agents, 2, F64)[1])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"law": "cauchy"}, "noise.law is 'cauchy'; allowed are gaussian"),
        ({"law": "pareto"}, "noise.tail is None; a gaussian has none, and every other law needs one"),
        ({"tail": 2.0}, "noise.tail is 2.0; a gaussian has none"),
        ({"law": "pareto", "tail": 1.5}, "noise.p is 2.0; it has to be below the tail index 1.5"),
        ({"law": "pareto", "tail": 1.0, "p": 0.5}, "noise.tail is 1.0; it has to be above 1"),
        ({"law": "stable", "tail": 2.0, "p": 1.5}, "a stable law's is between 1 and 2"),
        ({"law": "skewed_pareto", "tail": 3.0, "shape": "radial"}, "allowed are coordinates, line"),
        ({"size": -1.0}, "noise.size is -1.0, but no value may be below 0"),
        ({"size": math.inf}, "noise.size is inf, where a finite number is needed"),
        ({"multiplicative": math.nan}, "noise.multiplicative is nan, where a finite number is needed"),
        *[
            ({"law": law, "tail": math.inf}, "noise.tail is inf, where a finite number is needed")
            for law in ("student", "pareto", "skewed_pareto", "stable")
        ],
        ({"p": 400.0}, "noise.p is 400.0; .* this gaussian law is outside the floating-point range"),
        ({"p": 4000.0}, "noise.p is 4000.0; .* this gaussian law is outside the floating-point range"),
        ({"size": "big"}, "noise.size is 'big', where a number is needed"),
        ({"tails": 3.0}, "noise has no setting 'tails'; allowed are law, tail, size"),
    ],
)
def test_what_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        quadratic(noise=settings)
