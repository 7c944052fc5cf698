"""Low-rank adapters."""

import copy
import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from basinet.sim.models.adapters.adapter import ADAPTERS, AdaptedLayer

__all__ = ["LoRA", "LoRAConv1D", "LoRAEmbedding", "LoRALinear"]


@ADAPTERS.register("lora")
class LoRA:
    """Low-rank adapters: the weight of a layer is kept, and a product of two small matrices is trained and added.

    W ← W + s B A, with s = alpha / rank.

    A [rank, inputs] is drawn as the weight of a linear layer is, and B [outputs, rank] is zero, so that the model first
    computes what it did before. Adapted are layers of the types `nn.Linear`, `nn.Embedding` and transformers' `Conv1D`.

    Args:
        rank: Rank of B A.
        alpha: Scale of B A.
        targets: Layers to adapt, by name, where * stands for any characters, such as "*.q_proj"; by default, all that
            can be.
        dropout: Probability of dropping an input of A in training; embeddings have none.
        stabilized: Whether s = alpha / √rank, which does not shrink the updates of high ranks.

    References:
        E. J. Hu, Y. Shen, P. Wallis, Z. Allen-Zhu, Y. Li, S. Wang, L. Wang, W. Chen: LoRA: Low-rank adaptation of large
        language models, ICLR 2022, arXiv:2106.09685. `stabilized`: D. Kalajdzievski: A rank stabilization scaling
        factor for fine-tuning with LoRA (2023), arXiv:2312.03732.

    Example:
        >>> layer = LoRA(rank=2, alpha=4).adapt(nn.Linear(5, 3))
        >>> [(name, tuple(p.shape)) for name, p in layer.named_parameters()]
        [('weight', (3, 5)), ('bias', (3,)), ('lora_A', (2, 5)), ('lora_B', (3, 2))]
    """

    def __init__(
        self,
        *,
        rank: Annotated[int, Field(ge=1, le=10**6)] = 4,
        alpha: Annotated[float, Field(gt=0)] = 8.0,
        targets: Sequence[str] = ("*",),
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        stabilized: bool = False,
    ) -> None:
        self.targets = tuple(targets)
        self.rank, self.dropout = rank, dropout
        self.scale = alpha / (math.sqrt(rank) if stabilized else rank)

    def adapt(self, layer: nn.Module) -> nn.Module | None:
        """Return the layer with an adapter; see `Adapter`."""
        if "weight" not in layer._parameters or "forward" in vars(layer):
            return None
        # Exact types: a subclass may compute something else, or be computed by the layer that it is in.
        if type(layer) is nn.Linear:
            return LoRALinear(layer, self.rank, self.scale, self.dropout)
        if type(layer).__name__ == "Conv1D" and hasattr(layer, "nf"):  # of transformers, which need not be installed
            return LoRAConv1D(layer, self.rank, self.scale, self.dropout)
        if type(layer) is nn.Embedding and layer.max_norm is None and not layer.sparse:
            return LoRAEmbedding(layer, self.rank, self.scale)
        return None


def _attributes(layer: nn.Module) -> dict[str, Any]:
    """Copy the attributes of a layer; the parameters are the same."""
    return {name: copy.copy(held) for name, held in vars(layer).items()}


def _plain(layer: nn.Module, kind: type[nn.Module], weight: Tensor) -> nn.Module:
    """Return a layer without its adapter, with another weight."""
    plain = kind.__new__(kind)
    own = ("scale", "dropout", "kind", "lora_A", "lora_B")
    for name, held in _attributes(layer).items():
        kept = {key: value for key, value in held.items() if key not in own} if name == "_parameters" else held
        if name not in own:
            vars(plain)[name] = kept
    old = plain.get_parameter("weight")
    plain._parameters["weight"] = nn.Parameter(weight, old.requires_grad)
    return plain


class LoRALinear(AdaptedLayer, nn.Linear):
    """A linear layer with a low-rank adapter, W x + b + s B A x.

    Args:
        layer: The plain layer, whose parameters it shares.
        rank: Rank of B A.
        scale: The factor s.
        dropout: Probability of dropping an input of A in training.
    """

    added = ("lora_A", "lora_B")

    def __init__(self, layer: nn.Linear, rank: int, scale: float, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)
        vars(self).update(_attributes(layer))
        self.scale, self.dropout = scale, dropout
        self.lora_A = nn.Parameter(self.weight.new_empty(rank, self.in_features))
        self.lora_B = nn.Parameter(self.weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, input: Tensor) -> Tensor:
        """Compute the outputs [..., outputs] of inputs [..., inputs]."""
        x = functional.dropout(input, self.dropout, self.training) if self.dropout else input
        low = functional.linear(functional.linear(x, self.lora_A), self.lora_B)
        return super().forward(input) + self.scale * low

    def merged(self) -> nn.Module:
        """Return the linear layer with the weight W + s B A."""
        with torch.no_grad():
            weight = self.weight + self.scale * (self.lora_B @ self.lora_A)
        return _plain(self, nn.Linear, weight)


class LoRAConv1D(AdaptedLayer):
    """A layer of transformers that computes x W + b, with a low-rank adapter: x W + b + s x (B A)ᵀ.

    Args:
        layer: The plain layer, whose parameters it shares.
        rank: Rank of B A.
        scale: The factor s.
        dropout: Probability of dropping an input of A in training.
    """

    added = ("lora_A", "lora_B")
    weight: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Module, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        vars(self).update(_attributes(layer))
        self.kind, self.scale, self.dropout = type(layer), scale, dropout
        inputs, outputs = self.weight.shape
        self.lora_A = nn.Parameter(self.weight.new_empty(rank, inputs))
        self.lora_B = nn.Parameter(self.weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs [..., outputs] of inputs [..., inputs]."""
        kept = functional.dropout(x, self.dropout, self.training) if self.dropout else x
        low = functional.linear(functional.linear(kept, self.lora_A), self.lora_B)
        return functional.linear(x, self.weight.mT, self.bias) + self.scale * low

    def merged(self) -> nn.Module:
        """Return the layer with the weight W + s (B A)ᵀ."""
        with torch.no_grad():
            weight = self.weight + self.scale * (self.lora_B @ self.lora_A).mT
        return _plain(self, self.kind, weight)


class LoRAEmbedding(AdaptedLayer, nn.Embedding):
    """An embedding with a low-rank adapter: the rows of W + s (B A)ᵀ.

    Args:
        layer: The plain layer, whose parameters it shares.
        rank: Rank of B A.
        scale: The factor s.
    """

    added = ("lora_A", "lora_B")

    def __init__(self, layer: nn.Embedding, rank: int, scale: float) -> None:
        nn.Module.__init__(self)
        vars(self).update(_attributes(layer))
        self.scale = scale
        self.lora_A = nn.Parameter(self.weight.new_empty(rank, self.num_embeddings))
        self.lora_B = nn.Parameter(self.weight.new_zeros(self.embedding_dim, rank))
        nn.init.normal_(self.lora_A)

    def forward(self, input: Tensor) -> Tensor:
        """Look up rows [..., dimensions] by their indices."""
        low = functional.embedding(input, self.lora_A.mT, self.padding_idx)
        return super().forward(input) + self.scale * functional.linear(low, self.lora_B)

    def merged(self) -> nn.Module:
        """Return the embedding with the weight W + s (B A)ᵀ."""
        with torch.no_grad():
            weight = self.weight + self.scale * (self.lora_B @ self.lora_A).mT
        return _plain(self, nn.Embedding, weight)
