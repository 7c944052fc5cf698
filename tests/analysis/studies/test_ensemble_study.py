"""The study of ensembles of pretrained networks in a tiny form, and the rankings that it compares."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import permutation_test, spearmanr

from basinet.analysis.studies.vision.combined_extractors import SMALL, find_out
from basinet.analysis.studies.vision.judged_extractors import agreement, judgement_checks, rank_correlation

TINY = replace(
    SMALL,
    task={
        "name": "pretrained_ensemble",
        "extractors": ["random", "scene_statistics"],
        "contents": 8,
        "size": 32,
        "frames": 2,
        "key_frames": 1,
    },
    model={"name": "ensemble_regressor", "width": 2},
    agents=4,
    batch=2,
    steps=1,
    replicas=1,
    of_agents=1,
    of_heads=2,
    top=1,
    draws=1,
    elsewhere={"contents": 9, "size": 32, "frames": 2, "key_frames": 1},
    experiment={
        "analysis": ["hessian_top_eigenvalue", {"name": "excess_risk", "products": 1}],
        "analysis_samples": 4,
        "runtime": {"device": "cpu", "engine": "loop"},
    },
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield find_out(lambda done, what: told.append(done), tmp_path_factory.mktemp("out"), TINY), told


def test_the_study_compares_heads_extractors_agents_and_other_videos(found):
    findings, told = found
    assert all(b - a > -1e-12 for a, b in pairwise([0.0, *told])) and told[-1] == pytest.approx(1)
    drawings = {drawing.name: drawing for drawing in findings.drawings}
    judged = drawings["judgements"].rows
    assert {row["extractor"] for row in judged} == {"random", "scene_statistics"}
    assert "negative control" in drawings["extractors"].finding
    heads = drawings["heads"].rows
    trivial = {"mean target", "ridge on all features", "ridge on scene_statistics"}
    assert all(trivial <= row.keys() for row in heads)
    assert {row["replica"] for row in heads} == {0, 1}
    before, after = drawings["flatness"].rows, drawings["elsewhere"].rows
    assert {row["strategy"] for row in before} - {row["strategy"] for row in after} == {"isolated"}
    assert all(np.isfinite([row["at once"], row["at the end"]]).all() for row in after)
    assert any("our reading" in paragraph for paragraph in findings.about)


def test_objectives_of_a_batch_are_others_on_smaller_batches(found):
    checks = [check for check in found[0].checks if check.claim.startswith("the mean of the losses of batches")]
    assert ["another" in check.claim for check in checks] == [False, True, True]
    assert all(check.agrees for check in checks)


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
