"""The score of video quality in the NTIRE 2024 challenge on KVQ: correlations and rank accuracies of pairs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from basinet.sim.tasks.vision.videos.video_views import KINDS

__all__ = ["WEIGHTS", "challenge_score", "five_numbers", "is_constant", "pairs_right", "plcc", "srocc"]

WEIGHTS = {"srocc": 0.45, "plcc": 0.45, "rank_nonsource": 0.05, "rank_source": 0.05}
"""Weights of the four numbers in the score."""

_Floats = NDArray[np.float64]


def challenge_score(numbers: Mapping[str, Any]) -> Any:
    """Combine the four numbers to the score of the challenge.

    Args:
        numbers: Numbers, or arrays of them, by the names of `WEIGHTS`.

    Returns:
        0.45 SROCC + 0.45 PLCC + 0.05 (accuracy on non-source pairs) + 0.05 (accuracy on source pairs).

    Example:
        >>> numbers = {"srocc": 0.9361, "plcc": 0.9359, "rank_nonsource": 0.7792, "rank_source": 0.8284}
        >>> round(challenge_score(numbers), 4)
        0.9228
    """
    return sum(weight * numbers[name] for name, weight in WEIGHTS.items())


def five_numbers(predicted: Any, truth: Any, pairs: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Score predictions of quality as the challenge does.

    Args:
        predicted: The predictions [n].
        truth: The mean opinion scores [n].
        pairs: For "nonsource" (different contents, similar quality) and "source" (the same content), rows [P, 3]: the
            places of two videos, and 1 if the first is the better one, otherwise 2.

    Returns:
        `score`; `srocc` and `plcc`, which are 0 where predictions or scores are constant (`is_constant`); and
        `rank_nonsource` and `rank_source`. NaN is what cannot be known: a rank accuracy without pairs, the score
        without both, and everything if a prediction is not finite.

    Raises:
        ValueError: There are fewer than two videos, or not one prediction for each.

    Source: Li et al. (2024), NTIRE 2024 Challenge on Short-form UGC Video Quality Assessment, arXiv:2404.11313.

    Example:
        >>> pairs = {"nonsource": [[0, 1, 1]], "source": [[2, 1, 1], [0, 2, 2]]}
        >>> five_numbers([1.0, 1.0, 3.0], [1.0, 2.0, 3.0], pairs)["rank_source"]
        1.0
    """
    values, scores = _floats(predicted), _floats(truth)
    if values.ndim != 1 or values.shape != scores.shape:
        raise ValueError(f"predicted: got shape {values.shape} for scores of shape {scores.shape}; both must be [n]")
    if len(values) < 2:
        raise ValueError(f"predicted: got {len(values)}; correlations need at least 2 videos")
    numbers = {"srocc": float(srocc(values, scores)), "plcc": float(plcc(values, scores))}
    for kind in KINDS:
        rows = None if pairs is None else pairs.get(kind)
        right = None if rows is None or not len(rows) else pairs_right(values, rows)
        numbers[f"rank_{kind}"] = float("nan") if right is None else float(right.mean())
    if not np.isfinite(values).all():
        numbers = dict.fromkeys(numbers, float("nan"))
    return {"score": challenge_score(numbers), **numbers}


def is_constant(values: Any) -> bool:
    """Return whether all values are equal, so that their correlation with anything is undefined, and counts as 0.

    Args:
        values: The values [n].

    Returns:
        Whether they are.
    """
    found = _floats(values)
    return bool((found == found[:1]).all())


def srocc(predicted: Any, truth: Any) -> _Floats:
    """Compute Spearman's correlation of ranks; equal values share the mean of their ranks.

    Args:
        predicted: Predictions [..., n].
        truth: Scores [..., n].

    Returns:
        The correlations [...]; 0 where either is constant.
    """
    return plcc(rankdata(_floats(predicted), axis=-1), rankdata(_floats(truth), axis=-1))


def plcc(predicted: Any, truth: Any) -> _Floats:
    """Compute Pearson's correlation, without a logistic fit.

    Args:
        predicted: Predictions [..., n].
        truth: Scores [..., n].

    Returns:
        The correlations [...]; 0 where either is constant.
    """
    a, b = (_standard(_floats(values)) for values in (predicted, truth))
    found: _Floats = np.clip((a * b).sum(-1), -1, 1)
    return found


def pairs_right(predicted: Any, pairs: Any) -> NDArray[np.bool_]:
    """Find the pairs whose better video is predicted; with equal predictions the first one is taken.

    Args:
        predicted: The predictions [n].
        pairs: Rows [P, 3]: the places of two videos, and 1 if the first is the better one, otherwise 2.

    Returns:
        Whether each pair [P] is right.
    """
    values, rows = _floats(predicted), np.asarray(pairs)
    right: NDArray[np.bool_] = np.where(values[rows[:, 0]] >= values[rows[:, 1]], 1, 2) == rows[:, 2]
    return right


def _standard(values: _Floats) -> _Floats:
    """Shift and scale values to mean 0 and norm 1; constant ones become 0."""
    is_flat = values.max(-1, keepdims=True) == values.min(-1, keepdims=True)
    centred = values - values.mean(-1, keepdims=True)
    scale = np.abs(centred).max(-1, keepdims=True)  # squares of very small numbers are 0
    centred = np.where(is_flat, 0.0, centred) / np.where(is_flat, 1.0, scale)
    norm = np.sqrt((centred**2).sum(-1, keepdims=True))
    standard: _Floats = centred / np.where(is_flat, 1.0, norm)
    return standard


def _floats(values: Any) -> _Floats:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64)
