"""Contrastive losses of videos and texts, which are statistics of a batch.

Pairs of a batch that tell the same are no negatives of each other, as `same` says.
"""

import torch
from torch import Tensor, nn

__all__ = ["children_mean", "cosines", "info_nce", "mil_nce", "nt_xent", "present", "same_texts"]


def cosines(a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    """Compare embeddings.

    Args:
        a: Embeddings [A, D], not normalised.
        b: Others, [B, D] or [B, C, D].
        scale: The inverse of the temperature.

    Returns:
        Their cosines times the scale, [A, B] or [A, B, C].
    """
    a, b = (nn.functional.normalize(part, dim=-1) for part in (a, b))
    return scale * torch.unflatten(a @ b.flatten(0, -2).T, 1, b.shape[:-1])


def present(texts: Tensor, padding: int) -> Tensor:
    """Return which texts have any words.

    Args:
        texts: Words, int64 [..., T].
        padding: The word that fills up short texts.

    Returns:
        bool [...].
    """
    return (texts != padding).any(-1)


def same_texts(texts: Tensor, padding: int) -> Tensor:
    """Find the samples that share a text.

    Args:
        texts: Words of the candidates of each sample, int64 [B, C, T].
        padding: The word that fills up short texts; candidates of nothing else do not count.

    Returns:
        bool [B, B]; each sample shares with itself.
    """
    count, candidates = texts.shape[:2]
    rows, there = texts.flatten(0, 1), present(texts, padding).flatten()
    equal = (rows[:, None] == rows).all(-1) & there[:, None] & there
    shared = equal.view(count, candidates, count, candidates).any(3).any(1)
    return shared | torch.eye(count, dtype=torch.bool, device=texts.device)


def info_nce(scores: Tensor, same: Tensor, share: float = 0.5) -> Tensor:
    """Compute the cross-entropy of finding the text of each video among those of a batch, and the other way round.

    Args:
        scores: Of video i and text j, [B, B].
        same: Which pairs tell the same, bool [B, B], symmetric.
        share: How much finding texts counts, from 0 to 1: one half for the symmetric loss of CLIP.

    Returns:
        A scalar tensor.
    """
    right = scores.diagonal()
    scores = _without(scores, same)
    texts, videos = (scores.logsumexp(dim) - right for dim in (1, 0))
    return share * texts.mean() + (1 - share) * videos.mean()


def mil_nce(scores: Tensor, there: Tensor, same: Tensor) -> Tensor:
    """Compute the loss of several candidate texts for each video, any of which may be right.

    −log Σ exp(positives) / Σ exp(positives and negatives), with the positives of sample i the scores of its video and
    its candidates, and the negatives those of its video and others' candidates, and of others' videos and its
    candidates. Scores are cosines over a temperature, as in the other losses; in the published code of HecVL this loss
    alone has neither norms nor a temperature.

    Args:
        scores: Of video i and candidate c of sample j, [B, B, C].
        there: Which candidates there are, bool [B, C], at least one of each sample.
        same: Which samples tell the same, bool [B, B], symmetric.

    Returns:
        A scalar tensor.

    References:
        A. Miech et al.: End-to-end learning of visual representations from uncurated instructional videos, CVPR 2020,
        arXiv:1912.06430.
    """
    scores = scores.masked_fill(~there, -torch.inf)
    positives = scores.diagonal().T.logsumexp(1)  # of [B, C]
    of_video = _without(scores.logsumexp(2), same)
    of_texts = of_video.T.masked_fill(torch.eye(len(there), dtype=torch.bool, device=there.device), -torch.inf)
    return (torch.cat((of_video, of_texts), 1).logsumexp(1) - positives).mean()


def nt_xent(a: Tensor, b: Tensor, scale: Tensor | float, same: Tensor) -> Tensor:
    """Compute the cross-entropy of finding the other view of each sample among all other views of a batch.

    Args:
        a: Embeddings of a view of each sample, [B, D], not normalised.
        b: Those of another view.
        scale: The inverse of the temperature.
        same: Which samples tell the same, bool [B, B], symmetric.

    Returns:
        A scalar tensor.

    References:
        T. Chen et al.: A simple framework for contrastive learning of visual representations, ICML 2020,
        arXiv:2002.05709.
    """
    both = torch.cat((a, b))
    scores = cosines(both, both, scale)
    right = scores.diagonal(len(a))
    others = same & ~torch.eye(len(a), dtype=torch.bool, device=a.device)
    left_out = torch.cat((torch.cat((same, others), 1), torch.cat((others, same), 1)))
    return (scores.masked_fill(left_out, -torch.inf).logsumexp(1) - torch.cat((right, right))).mean()


def children_mean(embeddings: Tensor, there: Tensor) -> Tensor:
    """Average the embeddings of the texts of what a sample consists of.

    Args:
        embeddings: [B, S, D].
        there: Which texts there are, bool [B, S].

    Returns:
        [B, D]; 0 without any.
    """
    weights = there.to(embeddings.dtype)
    total = (embeddings * weights[..., None]).sum(1)
    return total / weights.sum(1, keepdim=True).clamp(min=1)


def _without(scores: Tensor, same: Tensor) -> Tensor:
    """Leave out the scores [B, B] of other samples that tell the same."""
    own = torch.eye(len(same), dtype=torch.bool, device=same.device)
    return scores.masked_fill(same & ~own, -torch.inf)
