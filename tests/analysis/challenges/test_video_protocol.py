import math

import numpy as np
import pytest
import torch
from scipy import stats

from basinet.analysis.challenges.video_protocol import challenge_score, five_numbers, is_constant, plcc, srocc

PUBLISHED = {
    "SJTU MMLab": (0.9361, 0.9359, 0.7792, 0.8284, 0.9228),
    "IH-VQA": (0.9298, 0.9325, 0.7013, 0.8284, 0.9145),
    "TVQE": (0.9268, 0.9312, 0.6883, 0.8284, 0.9120),
    "BDVQAGroup": (0.9275, 0.9211, 0.7489, 0.8462, 0.9116),
    "VideoFusion": (0.9026, 0.9071, 0.7186, 0.8580, 0.8932),
}
PAIRS = {"nonsource": torch.tensor([[0, 1, 1], [2, 3, 2]]), "source": torch.tensor([[1, 0, 1], [0, 3, 2], [3, 2, 2]])}


@pytest.mark.parametrize("team", PUBLISHED)
def test_the_published_scores_follow_from_their_four_numbers(team: str) -> None:
    *four, score = PUBLISHED[team]
    names = ("srocc", "plcc", "rank_nonsource", "rank_source")
    assert challenge_score(dict(zip(names, four, strict=True))) == pytest.approx(score, abs=1e-4)  # four digits each


def test_a_perfect_order_on_a_line_scores_one() -> None:
    numbers = five_numbers([1.0, 0.5, 2.0, 3.0], [2.0, 1.0, 4.0, 6.0], {**PAIRS, "source": [[1, 0, 2], [3, 2, 1]]})
    assert numbers == pytest.approx({"score": 1, "srocc": 1, "plcc": 1, "rank_nonsource": 1, "rank_source": 1})


@pytest.mark.parametrize("digits", [1, 12])  # with ties, and without
def test_correlations_are_those_of_scipy(digits: int) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(3, 60)).round(digits)
    predicted = (truth + rng.normal(size=(3, 60))).round(digits)
    for row in range(3):
        numbers = five_numbers(torch.tensor(predicted[row]), torch.tensor(truth[row]), None)
        assert numbers["srocc"] == pytest.approx(stats.spearmanr(predicted[row], truth[row])[0], abs=1e-12)
        assert numbers["plcc"] == pytest.approx(stats.pearsonr(predicted[row], truth[row])[0], abs=1e-12)
        assert srocc(predicted, truth)[row] == pytest.approx(numbers["srocc"], abs=1e-12)
        assert plcc(predicted, truth)[row] == pytest.approx(numbers["plcc"], abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_correlations_do_not_depend_on_the_scale(scale: float) -> None:
    truth, predicted = np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.0, 3.0, 3.5, 2.0])
    assert plcc(predicted * scale, truth) == pytest.approx(plcc(predicted, truth), abs=1e-12)


def test_of_equal_predictions_the_first_counts_as_better() -> None:
    numbers = five_numbers([1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0], PAIRS)
    assert numbers["rank_nonsource"] == 1 / 2  # (0, 1) is said to be 1, and is; (2, 3) is said to be 1, and is 2
    assert numbers["rank_source"] == 2 / 3  # (1, 0): 1, right; (0, 3): 2, right; (3, 2): 1, wrong


def test_constant_predictions_have_no_correlation() -> None:
    constant = [0.1] * 4  # whose mean is rounded
    assert is_constant(constant)
    assert not is_constant([0.1, 0.1, 0.2])
    numbers = five_numbers(constant, [1.0, 2.0, 3.0, 4.0], PAIRS)
    assert (numbers["srocc"], numbers["plcc"]) == (0, 0)
    assert numbers["score"] == pytest.approx(0.05 * (1 / 2 + 1 / 3))
    assert five_numbers([1.0, 2.0], [3.0, 3.0])["srocc"] == 0


@pytest.mark.parametrize("pairs", [None, {}, {"source": PAIRS["source"]}, {**PAIRS, "nonsource": torch.empty(0, 3)}])
def test_without_pairs_of_both_kinds_there_is_no_score(pairs: dict[str, torch.Tensor] | None) -> None:
    numbers = five_numbers([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], pairs)
    assert math.isnan(numbers["score"])
    assert math.isnan(numbers["rank_nonsource"])
    assert numbers["srocc"] == pytest.approx(1)
    assert math.isnan(numbers["rank_source"]) == (not pairs)


def test_nothing_is_known_of_predictions_that_are_not_finite() -> None:
    assert all(map(math.isnan, five_numbers([1.0, math.nan, 2.0, 0.0], [1.0, 2.0, 3.0, 4.0], PAIRS).values()))


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [([1.0], [2.0], "got 1"), ([], [], "got 0"), ([1.0, 2.0], [1.0, 2.0, 3.0], r"shape \(2,\)")],
)
def test_predictions_must_be_as_many_as_videos_and_two(
    predicted: list[float], truth: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        five_numbers(predicted, truth, PAIRS)
