import builtins
import gc

import numpy as np
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.multitest import multipletests

from basinet import compare
from basinet.analysis.compare.relations import correlations
from basinet.analysis.statistics.multiple_tests import holm
from basinet.launch.cli.entry import main
from basinet.sim.experiment.component import ExperimentError
from tests.planted_runs import write_run

RNG = np.random.default_rng(1)


@pytest.fixture
def planted(tmp_path):
    """Accuracy follows flatness with slope -2 within strategies, and risk confounds both."""
    for place, strategy in enumerate(("diffusion", "consensus", "isolated", "extra")):
        risk = RNG.normal(0.3 + 0.1 * place, 0.05, 12)
        trace = 5 * risk + RNG.normal(0, 0.3, 12)
        accuracy = 0.9 + 0.05 * place - 0.02 * trace - 0.1 * risk + RNG.normal(0, 0.004, 12)
        finals = {"test_accuracy": accuracy, "hessian_trace": trace, "excess_risk": risk}
        finals["half_trace"] = trace / 2
        write_run(tmp_path, strategy, {name: v.tolist() for name, v in finals.items()}, strategy=strategy)
    return compare(*sorted(tmp_path.iterdir()))


def test_relations_are_those_of_scipy_and_statsmodels(planted):
    found = planted.relations("test_accuracy", "hessian_trace", "excess_risk")
    assert not [note for note in found.notes if "boundary" not in note]
    by_name = {relation.name: relation for relation in found.found}
    data = planted.frame.frame()
    y, x, z = (data[name] for name in ("test_accuracy", "hessian_trace", "excess_risk"))
    rho, tau = stats.spearmanr(y, x), stats.kendalltau(y, x)
    spearman = by_name["test accuracy with Hessian trace: Spearman's ρ"]
    assert (spearman.value, spearman.p, spearman.n) == (pytest.approx(rho.statistic), pytest.approx(rho.pvalue), 48)
    assert spearman.lower < spearman.value < spearman.upper
    kendall = by_name["test accuracy with Hessian trace: Kendall's τ"]
    assert (kendall.value, kendall.p) == pytest.approx((tau.statistic, tau.pvalue))
    # the partial correlation by the formula of three correlations, and its p-value by the regression of ranks
    xy, xz, yz = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    partial = by_name["test accuracy with Hessian trace given excess risk: Spearman's ρ"]
    assert partial.value == pytest.approx((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))
    ranked = data[["test_accuracy", "hessian_trace", "excess_risk"]].rank()
    fit = smf.ols("test_accuracy ~ hessian_trace + excess_risk", ranked).fit()
    assert partial.p == pytest.approx(fit.pvalues["hessian_trace"])
    scaled = data[["test_accuracy", "hessian_trace", "excess_risk"]].apply(stats.zscore, ddof=1)
    fit = smf.ols("test_accuracy ~ hessian_trace + excess_risk", scaled).fit(cov_type="HC3", use_t=True)
    line = by_name["test accuracy with Hessian trace: least squares"]
    assert line.value == pytest.approx(fit.params["hessian_trace"])
    assert (line.lower, line.upper) == pytest.approx(tuple(fit.conf_int().loc["hessian_trace"]))
    mixed = by_name["test accuracy with Hessian trace: mixed model"]
    slope = mixed.value * y.std() / x.std()
    half = (mixed.upper - mixed.lower) / 2 * y.std() / x.std()
    assert abs(slope - -0.02) < 2 * half and half < 0.01  # as planted, whatever the strategies add


def test_intervals_of_rank_correlations_cover_in_19_of_20_samples():
    # of normal pairs with correlation r, Spearman's is 6/π arcsin(r/2) and Kendall's 2/π arcsin(r); given z, it is 0
    r, n, number = 0.5, 30, 300
    rng = np.random.default_rng(3)
    hits = np.zeros(3)
    for _ in range(number):
        z, x, y = rng.normal(size=(3, n))
        found = correlations([y + z, x + z, z], ["y", "x", "z"])
        wanted = 6 / np.pi * np.arcsin(r / 2), 2 / np.pi * np.arcsin(r), 0.0
        hits += [one.lower <= value <= one.upper for one, value in zip(found, wanted, strict=True)]
    # three standard deviations of the binomial distribution, and two percent for the approximation
    assert (np.abs(hits / number - 0.95) < 3 * np.sqrt(0.95 * 0.05 / number) + 0.02).all(), hits


def test_holms_method_is_that_of_statsmodels(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # which each of its calls does
    for number in range(1, 40):
        p = RNG.uniform(size=number) ** 4
        assert holm([np.nan, *p]).tolist() == [False, *multipletests(p, method="holm")[0].tolist()]


def test_relations_of_the_command(planted, capsys):
    folders = [str(run.path) for run in planted.frame.runs]
    assert main(["compare", *folders, "--y", "test_accuracy", "--x", "hessian_trace"]) == 0
    out = capsys.readouterr().out
    assert "given excess risk" in out and "mixed model" in out
    assert main(["compare", *folders, "--y", "test_accuracy"]) == 2
    assert "give --x, too" in capsys.readouterr().err


def test_what_cannot_be_related(planted, tmp_path, monkeypatch):
    with pytest.raises(ExperimentError, match="--x: 0 replicas have"):
        planted.relations("test_accuracy", "seconds")
    with pytest.raises(ExperimentError, match="2 in all 48 replicas"):
        planted.relations("test_accuracy", "degree")
    with pytest.raises(ExperimentError, match="no run has this key"):
        planted.relations("test_accuracy", "flatness")
    for names in (("test_accuracy", "hessian_trace", "hessian_trace"), ("excess_risk", "excess_risk")):
        with pytest.raises(ExperimentError, match="twice"):
            planted.relations(*names)
    same = planted.relations("test_accuracy", "hessian_trace", "half_trace")
    assert any("multiples of each other" in note for note in same.notes)
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.startswith("statsmodels"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    found = planted.relations("test_accuracy", "hessian_trace")
    assert len(found.found) == 2 and 'pip install "basinet[series]"' in found.notes[0]
