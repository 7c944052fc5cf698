"""A transformer encoder whose softmax is estimated by random features, as in Performer."""

import math

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.models.attention.classifier import Number, SequenceClassifier, Share
from basinet.sim.models.attention.heads import MultiHead, join_heads, without_padding
from basinet.sim.models.model import MODELS

__all__ = ["Performer", "RandomFeatureAttention"]


class RandomFeatureAttention(MultiHead):
    """softmax(Q Kᵀ / √size) V, estimated by positive features: exp(qᵀk) = E[φ(q)ᵀφ(k)], φ(x)ᵢ = exp(ωᵢᵀx − |x|²/2).

    The directions ω are orthogonal in groups of `size`, each as long as a normal vector, and the same in all heads.

    Args:
        width: Number of features of all heads together.
        heads: Number of heads, a divisor of the width.
        features: Number of random features.
        seed: What the directions are drawn from. They are a buffer, and so part of the state of a model.
    """

    directions: Tensor

    def __init__(self, width: int, heads: int, *, features: int, seed: int) -> None:
        super().__init__(width, heads)
        rng = np.random.default_rng(draws.key(seed, "features"))
        q, r = np.linalg.qr(rng.standard_normal((-(-features // self.size), self.size, self.size)))
        q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]  # uniform, which depends on no convention for signs
        lengths = np.linalg.norm(rng.standard_normal((features, self.size)), axis=1, keepdims=True)
        directions = torch.from_numpy(q.reshape(-1, self.size)[:features] * lengths)
        self.register_buffer("directions", directions.to(torch.get_default_dtype()))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """Attend by random features; see `MultiHead`."""
        query, key = query * self.size**-0.25, key * self.size**-0.25
        # Factors common to all features of a query, or of all keys, cancel: no exponential overflows.
        scores = query @ self.directions.mT
        left = (scores - scores.detach().amax(-1, keepdim=True)).exp()
        scores = key @ self.directions.mT - key.square().sum(-1, keepdim=True) / 2
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, :, None], -math.inf)
        highest = scores.detach().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
        right = (scores - highest).exp()
        total = left @ right.sum(-2).unsqueeze(-1)
        mixed = left @ (right.mT @ without_padding(value, padding))
        return join_heads(mixed / total.clamp(min=torch.finfo(total.dtype).tiny))


@MODELS.register("performer")
class Performer(SequenceClassifier):
    """A transformer encoder that estimates softmax attention by random features, at linear cost.

    Args:
        input_shape: (T,) or (T, channels), or with tokens also (2, T) for a pair; the simulator supplies it.
        num_outputs: Number of outputs; the simulator supplies it.
        vocabulary: Number of different tokens, None for numbers; the simulator supplies it.
        padding: The token that fills up short sequences, or None; the simulator supplies it.
        seed: What the random features are drawn from, the same for all agents; the simulator supplies it.
        width: Features of a token.
        layers: Number of blocks.
        heads: Attention heads of a block, a divisor of the width.
        hidden: Hidden units of the MLPs.
        features: Number of random features.
        dropout: Probability of dropping a feature in training.

    Example:
        >>> import torch
        >>> Performer((20, 1), 10, vocabulary=None, padding=None, seed=0)(torch.zeros(5, 20, 1)).shape
        torch.Size([5, 10])

    References:
        K. Choromanski et al.: Rethinking attention with performers, ICLR 2021, arXiv:2009.14794.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        vocabulary: int | None,
        padding: int | None,
        seed: int,
        *,
        width: Number = 64,
        layers: Number = 2,
        heads: Number = 2,
        hidden: Number = 128,
        features: Number = 32,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__(
            input_shape, num_outputs, vocabulary, padding, width=width, layers=layers, hidden=hidden, dropout=dropout,
            mix=lambda length, layer: RandomFeatureAttention(
                width, heads, features=features, seed=draws.key(seed, "layer", layer)
            ),
        )  # fmt: skip
