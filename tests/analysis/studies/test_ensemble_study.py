"""The study of ensembles of pretrained networks in a tiny form, and the rankings that it compares."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.stats import permutation_test, spearmanr

from basinet.analysis.runs.solution import Solution
from basinet.analysis.statistics.run_labels import strategy_label
from basinet.analysis.studies.flatness_tradeoff.trainings import by_case, carry_out
from basinet.analysis.studies.vision.combined_extractors import SMALL
from basinet.analysis.studies.vision.extractor_heads import Heads
from basinet.analysis.studies.vision.heads_elsewhere import Elsewhere, going_on
from basinet.analysis.studies.vision.judged_extractors import agreement, judgement_checks, rank_correlation
from basinet.sim.evaluation.measuring import measure

TINY = replace(
    SMALL,
    task={
        "name": "pretrained_ensemble",
        "extractors": ["random", "scene_statistics"],
        "contents": 6,
        "size": 32,
        "frames": 2,
        "key_frames": 1,
    },
    model={"name": "ensemble_regressor", "width": 2},
    agents=2,
    batch=4,
    steps=1,
    replicas=1,
    of_agents=1,
    of_heads=2,
    top=1,
    draws=1,
    elsewhere={"key_frames": 2},
    experiment={
        "analysis": ["hessian_top_eigenvalue", {"name": "excess_risk", "products": 1}],
        "analysis_samples": 4,
        "runtime": {"device": "cpu", "engine": "loop"},
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield tmp_path_factory.mktemp("out")


def test_heads_are_compared_by_objective_selection_and_extractor(folder):
    described = TINY.one_model(TINY.heads(), replicas=2)
    heads = Heads(by_case(carry_out(folder, "heads", described, lambda done, what: None)), TINY)
    ranked, judged, scores = heads.drawings()
    assert "negative control" in ranked.finding
    assert {row["extractor"] for row in judged.rows} == {"random", "scene_statistics"}
    assert {row["heads"] for row in scores.rows} == TINY.heads().keys()
    assert all(0 < row["davies_bouldin"] != row["davies_bouldin_of_all"] > 0 for row in judged.rows)
    trivial = {"mean target", "ridge on all features", "ridge on scene_statistics"}
    assert all(trivial <= row.keys() for row in scores.rows)
    checks = {check.claim: check for check in heads.checks()}
    for case in ("fixed clusters", "batch clusters"):
        gap = heads.score(case) - heads.score("no ICID")
        (check,) = (checks[name] for name in checks if "higher" in name and f"(difference, {case} against" in name)
        assert float(str(check.measured).split()[0]) == pytest.approx(gap.mean(), rel=0.01, abs=1e-4)


def test_heads_go_on_with_other_videos_where_they_have_ended(folder):
    cases = {"iid": TINY.conditions()["iid"]}
    described = TINY.describe(cases, strategy=["centralized", "diffusion"])
    before = carry_out(folder, "strategies", described, lambda done, what: None)
    described = TINY.one_model(going_on(before), task=TINY.task_elsewhere())
    after = by_case(carry_out(folder, "elsewhere", described, lambda done, what: None))
    found = Elsewhere(before, after, "test_srocc")
    checks = list(found.checks("diffusion ATC", "iid"))
    assert len(found.rows) == 2 and checks[0].verdict == "too few pairs"
    for run, row in zip(before, found.drawing("SROCC").rows, strict=True):
        assert strategy_label(run.config) == row["strategy"]
        model = Solution(run.path, 0, "float32").centroid()
        other = Solution(after[f"{row['strategy']}, iid"].path, 0, "float32").task
        outputs = partial(other.outputs, model)
        assert row["at once"] == pytest.approx(measure(other, "test", outputs, model=model)["test_srocc"], abs=1e-6)


def test_rankings_are_compared_by_permutations():
    a, b = [1.0, 2.0, 2.0, 5.0, 3.0, 9.0], [2.0, 1.0, 4.0, 6.0, 5.0, 7.0]
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert np.isnan(rank_correlation(a, [1.0] * 6))
    exact = permutation_test(
        (a,), lambda x: spearmanr(x, b).statistic, permutation_type="pairings", alternative="greater"
    )
    found = float(agreement("alike", a, b).measured.split("= ")[1])
    # 20,000 permutations, of which a share p is as large: three standard errors, and two digits.
    assert found == pytest.approx(exact.pvalue, abs=0.006)
    assert agreement("alike", a, b).verdict == "agrees"
    assert agreement("alike", a, [-x for x in b]).verdict == "reversed"
    assert agreement("alike", a[:3], b[:3]).verdict == "not shown"


def test_controls_are_told_by_their_places():
    names = ["blur", "x", "y", "z", "w", "random"]
    rows = [
        {
            "extractor": name,
            "davies_bouldin": place,
            "davies_bouldin_of_all": -place,
            "ridge_srocc": -place,
            "score": -place,
        }
        for place, name in enumerate(names)
    ]
    controls = [check.agrees for check in judgement_checks(rows) if "control" in check.claim]
    assert controls == [True, True, False, False, True, True]
