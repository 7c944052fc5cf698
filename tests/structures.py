"""Tasks whose batches, outputs and losses have other structures than inputs and class labels."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from basinet.sim.tasks import Batch, Regression, Task

SAMPLES, LENGTH, WORDS, WIDTH = 24, 5, 7, 4


def _numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _tokens(high: int, seed: int) -> Tensor:
    return torch.randint(high, (SAMPLES, LENGTH), generator=torch.Generator().manual_seed(seed))


class Pair(nn.Module):
    """A model of two inputs by position."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(WIDTH, 2), nn.Linear(3, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.tanh(self.left(a)) * self.right(b)


@dataclass
class Text:
    """Tokens with their labels, which are none (−100) where the mask is 0."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


@dataclass
class Output:
    """What a model returns in the style of Hugging Face."""

    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] = ()


class TiedLanguageModel(nn.Module):
    """A model whose head is its embedding, with attention between the two."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.mix = nn.Linear(WIDTH, 3 * WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Any = None) -> Output:
        x = self.embedding(input_ids)
        q, k, v = self.mix(self.norm(x)).chunk(3, -1)
        mask = None if attention_mask is None else attention_mask[:, None, :].bool()
        y = x + nn.functional.scaled_dot_product_attention(q, k, v, mask)
        logits = self.head(y)
        if labels is None:
            return Output(logits=logits, hidden_states=(x, y))
        loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
        return Output(logits=logits, loss=loss, hidden_states=(x, y))


class Tagger(nn.Module):
    """A recurrent model that returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(WORDS, WIDTH), nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.lstm(self.embedding(tokens))[0])}


class WeightedTokens(Task):
    """Tokens that count as much as their weights."""

    def weights(self, batch: Batch) -> Tensor:
        weight: Tensor = batch["weight"]
        return weight


class OfTheModel(Task):
    """The loss that the model itself computes for a batch."""

    def outputs(self, model: Any, batch: Batch) -> Any:
        return model(batch.input_ids, batch.attention_mask, batch.labels)

    def loss(self, outputs: Output, batch: Batch) -> Tensor:
        assert outputs.loss is not None
        return outputs.loss


class Contrastive(Task):
    """Two views of each sample, each of which has to find the other in the batch (InfoNCE)."""

    def outputs(self, model: Any, batch: Batch) -> Any:
        return model(batch[0]), model(batch[1])

    def loss(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        left, right = (nn.functional.normalize(view, dim=-1) for view in outputs)
        scores = left @ right.mT / 0.5
        return nn.functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def _text() -> Text:
    mask = (torch.arange(LENGTH) < torch.arange(SAMPLES)[:, None] % LENGTH + 1).long()
    return Text(_tokens(WORDS, 0), mask, _tokens(WORDS, 1).masked_fill(mask == 0, -100))


def _tagged() -> dict[str, Tensor]:
    weight = _numbers(SAMPLES, LENGTH, seed=2).abs()
    return {"tokens": _tokens(WORDS, 0), "labels": _tokens(3, 1), "weight": weight * (weight > 0.3)}


STRUCTURES: dict[str, tuple[Task, Any]] = {
    "two inputs": (
        Regression(
            train=(_numbers(SAMPLES, WIDTH, seed=0), _numbers(SAMPLES, 3, seed=1), _numbers(SAMPLES, 2, seed=2)),
            num_outputs=2,
        ),
        Pair,
    ),
    "masked language": (Task(train=_text(), num_outputs=WORDS), TiedLanguageModel),
    "weighted tokens": (WeightedTokens(train=_tagged(), num_outputs=3), Tagger),
    "loss of the model": (
        OfTheModel(train=_text(), num_outputs=WORDS, classification=False, mean_over="batch"),
        TiedLanguageModel,
    ),
    "contrastive": (
        Contrastive(
            train=(_numbers(SAMPLES, WIDTH, seed=0), _numbers(SAMPLES, WIDTH, seed=1)),
            num_outputs=3,
            classification=False,
            mean_over="batch",
        ),
        lambda: nn.Sequential(nn.Linear(WIDTH, 6), nn.Tanh(), nn.Linear(6, 3)),
    ),
}
"""A task and what makes its model, by the structure."""


def mean_loss(name: str, model: nn.Module, batch: Any) -> Tensor:
    """Compute the mean loss of a batch as one would without the simulator."""
    cross_entropy = nn.functional.cross_entropy
    if name == "two inputs":
        return (model(batch[0], batch[1]) - batch[2]).square().mean()
    if name == "masked language":
        logits = model(batch.input_ids, batch.attention_mask).logits
        return cross_entropy(logits.flatten(0, 1), batch.labels.flatten())
    if name == "weighted tokens":
        losses = cross_entropy(model(batch["tokens"])["logits"].mT, batch["labels"], reduction="none")
        return (losses * batch["weight"]).sum() / batch["weight"].sum()
    if name == "loss of the model":
        found: Tensor = model(batch.input_ids, batch.attention_mask, batch.labels).loss
        return found
    left, right = (nn.functional.normalize(model(view), dim=-1) for view in batch)
    return cross_entropy(2 * left @ right.mT, torch.arange(len(left)))
