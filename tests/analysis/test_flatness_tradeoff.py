"""The study of flatness and optimization: its statistics, and that a short form of it runs from end to end."""

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from basinet.analysis.studies import STUDIES, write_findings
from basinet.analysis.studies.claims import SHORT, above_one
from basinet.analysis.studies.digits import _at_the_loss, _share, nested_errors, paired
from basinet.analysis.studies.flatness_tradeoff import flatness_tradeoff


def test_paired_intervals_are_those_of_the_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 12))
    wanted = ttest_rel(a, b).confidence_interval(0.95)
    assert paired(a, b) == pytest.approx((np.mean(a - b), wanted.low, wanted.high))


@pytest.mark.parametrize("count", [0, 3, 16])
def test_shares_have_exact_intervals(count):
    wanted = binomtest(count, 16).proportion_ci(0.95, method="exact")
    assert _share(np.arange(16) < count) == pytest.approx((count / 16, wanted.low, wanted.high))


def test_a_ratio_above_one_has_to_show():
    assert above_one("", 2.0, 2.0, 0.3).agrees
    assert not above_one("", 2.0, 2.0, 0.4).agrees
    assert not above_one("", 2.0, 0.5, 0.01).agrees


def test_nested_regressions():
    """A target of both features, one of a single one, and noise: the gain shows where there is one."""
    rng = np.random.default_rng(1)
    x, z = rng.standard_normal((2, 120))
    groups = np.arange(120) // 6
    noise = 0.1 * rng.standard_normal(120)
    both = nested_errors({"x": x, "z": z}, x + z + noise, groups)
    assert both["all"].mean() < 0.02 and both["x"].mean() > 0.5 and both["z"].mean() > 0.5
    assert both["nothing"].mean() == pytest.approx(2, rel=0.5)
    one = nested_errors({"x": x, "z": z}, x + noise, groups)
    mean, low, _ = paired(one["x"], one["all"])
    assert low <= 0 and abs(mean) < 1e-3
    # Left out means left out: a group of its own level is not seen by what predicts it.
    alone = nested_errors({"x": np.zeros(4)}, [0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])
    assert alone["x"] == pytest.approx([1.0, 1.0])


def test_matched_losses_are_interpolated_between_trainings():
    def end(loss, accuracy, top):
        return [{"train_loss": loss, "test_accuracy": accuracy, "hessian_top_eigenvalue": top}]

    runs = [end(1.0, 0.5, 1.0), end(0.01, 0.9, 16.0), end(0.1, 0.7, 4.0)]
    found = _at_the_loss(runs, np.array([10**-0.5]))
    assert found["test_accuracy"] == pytest.approx([0.6])
    assert found["hessian_top_eigenvalue"] == pytest.approx([np.log(2)])
    assert np.isnan(_at_the_loss(runs, np.array([2.0]))["test_accuracy"]).all()


@pytest.mark.slow
def test_a_short_form_of_the_study_runs(tmp_path):
    seen = []
    findings = flatness_tradeoff(lambda done, what: seen.append(done), SHORT)
    assert all(0 <= done <= 1 for done in seen) and seen == sorted(seen)
    claims = {check.claim.split(",")[0].split(":")[0] for check in findings.checks}
    assert claims == {"1", "1b", "2", "3", "4", "5", "6"}
    # What does not depend on chance comes out in the short form, too: where a strategy can rest.
    caps = [check for check in findings.checks if "cannot rest" in check.claim]
    assert [check.predicted for check in caps] == pytest.approx([20.0, 20.0, 20 / 3])
    assert all(check.agrees for check in caps)
    page = write_findings(findings, tmp_path / "out", command="basinet reproduce flatness-tradeoff", seconds=1.0)
    assert "1b: the speed-up of consensus" in page.read_text()
    assert STUDIES["flatness-tradeoff"] is flatness_tradeoff
