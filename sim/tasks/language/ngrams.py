"""N-gram models, the baselines of language models."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from basinet.sim.data.nests import leaves
from basinet.sim.data.rows import Data
from basinet.sim.evaluation.measuring import chunks, measure, metrics_of
from basinet.sim.run.quantity import Where
from basinet.sim.tasks.language.tokens import Tokens
from basinet.sim.tasks.task import Batch, Task

__all__ = ["Bigrams", "ngram_baselines"]

_CHUNK = 4096
"""Samples that are measured at a time."""


def _pairs(task: Task, data: Data) -> tuple[Tensor, Tensor, Tensor]:
    """Count how often each token follows each other: the first, the second, and the number of times, [m] each."""
    found = []
    for batch, _ in chunks(task, data, _CHUNK):
        codes = leaves(batch)[0] * task.num_outputs + task.targets(batch)
        found.append(torch.unique(codes, return_counts=True))
    codes, places = torch.unique(torch.cat([codes for codes, _ in found]), return_inverse=True)
    counts = torch.zeros(len(codes), dtype=torch.float64, device=codes.device)
    counts.index_add_(0, places, torch.cat([counts for _, counts in found]).double())
    return codes // task.num_outputs, codes % task.num_outputs, counts


class Bigrams:
    """Unigrams and bigrams, smoothed as by Witten and Bell (1991, doi:10.1109/18.87000).

    With c the counts in the training targets, and t the number of different tokens that follow a token, or that there
    are:

        p(w) = (c(w) + t / V) / (Σc + t),   p(w | v) = (c(v, w) + t(v) p(w)) / (c(v) + t(v)).

    Args:
        first: Tokens, [m].
        second: Tokens that follow them, [m]; each pair once.
        counts: How often they do, float64 [m].
        size: Number of different tokens, V.
    """

    def __init__(self, first: Tensor, second: Tensor, counts: Tensor, size: int) -> None:
        self.first, self.second, self.counts, self.size = first, second, counts, size
        unigrams = self._by_token(second, counts)
        kinds = (unigrams > 0).sum().double()
        self.unigrams = (unigrams + kinds / size) / (unigrams.sum() + kinds)
        self.followed = self._by_token(first, counts)
        self.kinds = self._by_token(first, torch.ones_like(counts))

    def _by_token(self, tokens: Tensor, values: Tensor) -> Tensor:
        return values.new_zeros(self.size).index_add_(0, tokens, values)

    def uniform(self, tokens: Tensor) -> Tensor:
        """Compute log 1 / V of each token after some.

        Args:
            tokens: Tokens, int64, of any shape.

        Returns:
            Logarithms, float64 [*tokens.shape, V].
        """
        return torch.full_like(self.unigrams, 1 / self.size).log().expand(*tokens.shape, -1)

    def unigram(self, tokens: Tensor) -> Tensor:
        """Compute log p(w) of each token w after some; see `uniform`."""
        return self.unigrams.log().expand(*tokens.shape, -1)

    def bigram(self, tokens: Tensor) -> Tensor:
        """Compute log p(w | v) of each token w after some v; see `uniform`."""
        contexts, places = torch.unique(tokens, return_inverse=True)
        known = torch.isin(self.first, contexts)
        kinds = self.kinds[contexts].where(self.kinds[contexts] > 0, 1)[:, None]  # p(w) after what was never seen
        table = kinds * self.unigrams
        table[torch.searchsorted(contexts, self.first[known]), self.second[known]] += self.counts[known]
        return (table / (self.followed[contexts][:, None] + kinds)).log()[places]


@dataclass(frozen=True, kw_only=True)
class _Pairs(Task):
    """Pairs of tokens, each as often as it is in a text: (first, count, second)."""

    tokens: Tokens

    def weights(self, batch: Batch) -> Tensor:
        """Return how often each pair counts."""
        counts: Tensor = batch[1]
        return counts


def ngram_baselines(task: Task, tokens: Tokens) -> dict[str, dict[str, float]]:
    """Measure n-gram models of the training text.

    Args:
        task: A language model, whose batches begin with the inputs.
        tokens: Its tokens.

    Returns:
        Losses and metrics on the test data by name, under "uniform", "unigram" and "bigram"; on the training data if
        there are no others.
    """
    where: Where = "train" if task.test is None else "test"
    first, second, counts = trained = _pairs(task, task.train)
    ngrams = Bigrams(*trained, task.num_outputs)
    if task.test is not None:
        first, second, counts = _pairs(task, task.test)
    data = first, counts, second
    pairs = _Pairs(
        train=data,
        test=data,
        num_outputs=task.num_outputs,
        tokens=tokens,
        metrics=tuple(metrics_of(task)),
        metrics_on=task.metrics_on,
    )

    def measured(model: Callable[[Tensor], Tensor]) -> dict[str, float]:
        return measure(pairs, where, lambda batch: model(batch[0]), chunk=_CHUNK)

    with torch.no_grad():
        return {model.__name__: measured(model) for model in (ngrams.uniform, ngrams.unigram, ngrams.bigram)}
