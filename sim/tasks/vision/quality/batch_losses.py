"""Losses of the scores of a whole batch."""

from torch import Tensor

__all__ = ["plcc_loss", "rank_loss"]


def plcc_loss(predicted: Tensor, scores: Tensor) -> Tensor:
    r"""Compute $\frac12 [\frac14 \overline{(p − y)^2} + \frac14 \overline{(ρ p − y)^2}]$ of standardised p and y.

    ρ is their correlation. The loss is near 0 if it is 1, and 1/4 for constant predictions.

    Args:
        predicted: Predictions p [B, 1].
        scores: Scores y [B, 1].

    Returns:
        A scalar.

    References:
        W. Sun et al.: A deep learning based no-reference quality assessment model for UGC videos, ACM MM 2022,
        arXiv:2204.14047.
    """
    p, y = (_standardised(part) for part in (predicted, scores))
    rho = (p * y).mean()
    return ((p - y).square().mean() + (rho * p - y).square().mean()) / 8


def rank_loss(predicted: Tensor, scores: Tensor) -> Tensor:
    r"""Compute the mean of $\max(0, |y_i − y_j| − \mathrm{sign}(y_i − y_j)(p_i − p_j))$ over all pairs of a batch.

    Args:
        predicted: Predictions p [B, 1].
        scores: Scores y [B, 1].

    Returns:
        A scalar.
    """
    predictions, truth = (part.flatten()[:, None] - part.flatten()[None] for part in (predicted, scores))
    return (truth.abs() - truth.sign() * predictions).clamp(min=0).mean()


def _standardised(x: Tensor) -> Tensor:
    """Shift and scale numbers to mean 0 and variance 1; near 0, where all are the same, the gradient stays finite."""
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-6).sqrt()
