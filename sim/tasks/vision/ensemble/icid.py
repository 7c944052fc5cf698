"""The ICID loss: intra-consistency of extractors, and inter-divisibility of clusters of annotated quality.

The paper's formulas could not be verified: what is computed here is our reading of what it says of them.
"""

import torch
from torch import Tensor, nn

__all__ = ["batch_cosines", "cluster_edges", "clusters_of", "inter_divisibility", "intra_consistency"]


def intra_consistency(embeddings: Tensor) -> Tensor:
    r"""Compute $\frac{1}{M(M−1)} \sum_{m≠m'} (1 − \cos(z_m, z_{m'}))$ of each sample.

    It is 0 if and only if all embeddings of a sample have the same direction, and at most 1 + 1 / (M − 1).

    Args:
        embeddings: Those of M extractors, z [B, M, D].

    Returns:
        [B]; 0 for one extractor.
    """
    count = embeddings.shape[1]
    if count == 1:
        return embeddings.new_zeros(len(embeddings))
    unit = nn.functional.normalize(embeddings, dim=-1)
    pairs = unit.sum(1).square().sum(-1) - unit.square().sum((1, 2))
    return 1 - pairs / (count * (count - 1))


def inter_divisibility(cosines: Tensor, clusters: Tensor, margin: float) -> Tensor:
    r"""Compute $\max(0, d(u, C_c) − \min_{j≠c} d(u, C_j) + \mathrm{margin})$ of each sample, with d = 1 − cos.

    It is 0 if and only if a sample is nearer to the centre of its own cluster than to any other, by the margin.

    Args:
        cosines: Of u and each centre $C_j$, [B, K]; −∞ for a cluster that has none.
        clusters: The cluster c of each sample, int64 [B].
        margin: By how much nearer it is to be.

    Returns:
        [B].
    """
    own = clusters[:, None] == torch.arange(cosines.shape[1], device=cosines.device)
    nearest = cosines.masked_fill(own, -torch.inf).amax(1)
    return (nearest - cosines.masked_fill(~own, 0).sum(1) + margin).clamp(min=0)


def batch_cosines(together: Tensor, clusters: Tensor, count: int) -> Tensor:
    """Compute the cosines of samples and the centres of the clusters of their batch.

    A centre is the mean of the directions of the samples in its cluster.

    Args:
        together: Weighted sums of the embeddings of samples, u [B, D].
        clusters: The cluster of each sample, int64 [B].
        count: Number of clusters, K.

    Returns:
        [B, K]; −∞ for clusters without samples.
    """
    unit = nn.functional.normalize(together, dim=-1)
    members = (clusters[:, None] == torch.arange(count, device=clusters.device)).to(unit.dtype)
    empty = members.sum(0) == 0
    # Any direction for an empty one, so that all derivatives are finite.
    centres = (members.mT @ unit).masked_fill(empty[:, None], 1)
    return (unit @ nn.functional.normalize(centres, dim=-1).mT).masked_fill(empty, -torch.inf)


def cluster_edges(scores: Tensor, count: int) -> Tensor:
    """Divide scores into clusters of about the same size; equal ones are in the same cluster.

    Args:
        scores: [n, 1].
        count: Number of clusters, K.

    Returns:
        The smallest score of each cluster but the first, [K − 1].
    """
    firsts = torch.arange(1, count, device=scores.device) * len(scores) // count
    return scores.flatten().sort().values[firsts]


def clusters_of(scores: Tensor, edges: Tensor) -> Tensor:
    """Find the cluster of each score, the lowest first.

    Args:
        scores: [B, 1].
        edges: See `cluster_edges`.

    Returns:
        int64 [B].
    """
    return (scores >= edges).sum(-1)
