"""How well the features of an extractor tell quality: the Davies–Bouldin index of its clusters, and a ridge."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.tasks.vision.quality.statistics_ridge import Ridge, Standard

__all__ = ["Ranked", "cross_validated", "davies_bouldin", "rank_extractors", "without_content"]

_FOLDS = 4
"""Parts of the data that are left out in turn."""


class Ranked(NamedTuple):
    """How an extractor is judged, on training videos.

    Attributes:
        name: Its name.
        length: Number of its features.
        davies_bouldin: Davies–Bouldin index of the clusters of quality in its features, content removed; smaller is
            better.
        ridge_srocc: Spearman's correlation of the scores and of what a ridge predicts for videos that are left out.
        selected: Whether it is used.
        content: A digest of what it is; see `Extractor`.
    """

    name: str
    length: int
    davies_bouldin: float
    ridge_srocc: float
    selected: bool = True
    content: str = ""


def without_content(features: Tensor, contents: Sequence[Any] | NDArray[Any]) -> Tensor:
    """Subtract from features the mean over the videos of the same content, which otherwise dominates all distances.

    Args:
        features: [n, F].
        contents: What each video shows, [n].

    Returns:
        [n, F].
    """
    of = torch.from_numpy(np.unique(np.asarray(contents), return_inverse=True)[1])
    sums = features.new_zeros(int(of.max()) + 1, features.shape[1]).index_add_(0, of, features)
    return features - (sums / of.bincount()[:, None])[of]


def davies_bouldin(features: Tensor, clusters: Tensor) -> float:
    r"""Compute the index $\frac1K \sum_i \max_{j≠i} (s_i + s_j) / d_{ij}$ of clusters.

    $s_i$ is the mean distance of the points of cluster i and their centre, and $d_{ij}$ that of two centres.

    Args:
        features: Points [n, F].
        clusters: The cluster of each, int64 [n]; at least two are not empty.

    Returns:
        The index; infinity if two centres coincide.

    References:
        D. L. Davies, D. W. Bouldin: A cluster separation measure, IEEE TPAMI 1 (2), 1979.
    """
    parts = [features[clusters == cluster].double() for cluster in sorted({*clusters.tolist()})]
    centres = torch.stack([part.mean(0) for part in parts])
    spreads = torch.stack([(part - c).norm(dim=1).mean() for part, c in zip(parts, centres, strict=True)])
    apart = (centres[:, None] - centres).norm(dim=-1)
    ratios = (spreads[:, None] + spreads) / apart
    ratios.fill_diagonal_(0)
    return float(ratios.nan_to_num(nan=torch.inf).amax(1).mean())


def cross_validated(features: Tensor, scores: Tensor, groups: Sequence[Any] | NDArray[Any]) -> float:
    """Predict the scores of videos by a ridge that is fitted to videos of other groups.

    The groups are divided among four folds, or as many as there are groups; each fold is left out in turn.

    Args:
        features: [n, F].
        scores: [n].
        groups: The group of each video, such as its photo, [n].

    Returns:
        Spearman's correlation of predicted and true scores, its mean over the folds; 0 in a fold whose predictions are
        all equal, and NaN if there is a single group.
    """
    from scipy.stats import spearmanr  # which takes long to import

    of = np.unique(np.asarray(groups), return_inverse=True)[1]
    folds = min(_FOLDS, int(of.max()) + 1)
    if folds < 2:
        return float("nan")
    found = []
    for fold in range(folds):
        held = torch.from_numpy(of % folds == fold)
        predicted = Ridge(features[~held], scores[~held])(features[held]).numpy()
        truth = scores[held].numpy()
        constant = np.ptp(predicted) == 0 or np.ptp(truth) == 0
        found.append(0.0 if constant else float(spearmanr(predicted, truth).statistic))
    return float(np.mean(found))


def rank_extractors(
    features: Mapping[str, Tensor],
    scores: Tensor,
    clusters: Tensor,
    contents: NDArray[Any] | None,
    groups: NDArray[Any],
) -> list[Ranked]:
    """Judge extractors by the training videos.

    Args:
        features: Those of each extractor, by its name, [n, frames, F].
        scores: Scores of the videos, [n, 1].
        clusters: The cluster of the quality of each, int64 [n].
        contents: What each video shows, which is removed for the index; None if it is not known.
        groups: Which videos are left out together; see `cross_validated`.

    Returns:
        Their judgements, in the order of the extractors.
    """
    found = []
    for name, part in features.items():
        means = part.double().mean(1)
        points = Standard.of(means)(means)
        points = points if contents is None else without_content(points, contents)
        index = davies_bouldin(points, clusters)
        found.append(Ranked(name, means.shape[1], index, cross_validated(means, scores[:, 0].double(), groups)))
    return found
