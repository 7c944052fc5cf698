"""A language model: a causal transformer in the style of LLaMA."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from basinet.sim.models.language.key_value_cache import KeyValueCache
from basinet.sim.models.language.rotary import Turn, rotate, turn
from basinet.sim.models.model import MODELS

__all__ = ["SIZES", "Llama", "Size"]

Size = Literal["100k", "1m", "6m", "20m", "60m"]


class _Shape(NamedTuple):
    layers: int
    width: int
    heads: int


SIZES: dict[Size, _Shape] = {
    "100k": _Shape(3, 48, 3),
    "1m": _Shape(5, 128, 4),
    "6m": _Shape(7, 256, 8),
    "20m": _Shape(11, 384, 6),
    "60m": _Shape(8, 512, 8),
}
"""Layers, width and heads; the last are those of the GaLore paper (arXiv:2403.03507)."""

_DEVIATION = 0.02
"""Standard deviation of initial values."""

_Number = Annotated[int, Field(ge=1, le=10**6)]


@MODELS.register("llama")
class Llama(nn.Module):
    """A causal transformer: RMSNorm, rotary embeddings, SwiGLU and no biases, as in LLaMA.

    Its parameters have the names and shapes of those of transformers' `LlamaForCausalLM`.

    Args:
        input_shape: (T,), T being the length of the sequences; the simulator supplies it.
        vocabulary: Number of different tokens; the simulator supplies it.
        size: Layers, width and heads together, by about how many parameters they make at a vocabulary of 257 bytes and
            an end of text; "60m" at 32,000, as in the GaLore paper.
        layers: Number of blocks, by default that of the size.
        width: Width of the embedding, by default that of the size.
        heads: Heads of the attention, by default those of the size.
        kv_heads: Heads of keys and values, each shared by heads/kv_heads queries; by default as many as heads.
        hidden: Width of the hidden layer of a block, by default 8/3 of the width, rounded up to a multiple of 32.
        tied: Whether the table of embeddings is also the last layer.
        rotary_base: Base of the wavelengths of the rotary embeddings.
        eps: Added to mean squares by RMSNorm.

    Raises:
        ValueError: The inputs are not tokens, or the heads do not divide the width.

    Source:
        Touvron et al. (2023), arXiv:2302.13971.

    Example:
        >>> model = Llama((64,), 257, size="100k")
        >>> model(torch.zeros(5, 64, dtype=torch.int64)).shape
        torch.Size([5, 64, 257])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        vocabulary: int | None,
        *,
        size: Size = "100k",
        layers: _Number | None = None,
        width: _Number | None = None,
        heads: _Number | None = None,
        kv_heads: _Number | None = None,
        hidden: _Number | None = None,
        tied: bool = False,
        rotary_base: Annotated[float, Field(gt=1)] = 10_000.0,
        eps: Annotated[float, Field(gt=0)] = 1e-6,
    ) -> None:
        super().__init__()
        if vocabulary is None or len(input_shape) != 1:
            what = "numbers" if vocabulary is None else "tokens"
            raise ValueError(f"llama needs sequences of tokens of shape (T,), but got {what} of shape {input_shape}")
        shape = SIZES[size]
        layers, width, heads = layers or shape.layers, width or shape.width, heads or shape.heads
        kv_heads = kv_heads or heads
        if width % (2 * heads):
            raise ValueError(f"heads: got {heads} for a width of {width}; heads have to be of the same even width")
        if heads % kv_heads:
            raise ValueError(f"kv_heads: got {kv_heads} for {heads} heads; allowed are divisors of this")
        hidden = hidden or -(-8 * width // 96) * 32
        (self.context,) = input_shape
        self.widths = _Widths(width, heads, kv_heads, hidden, eps)
        self.model = _Body(vocabulary, layers, self.widths, rotary_base)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=_DEVIATION)
        if tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens: Tensor, documents: Tensor | None = None, cache: KeyValueCache | None = None) -> Tensor:
        """Compute the logits of the next tokens.

        Args:
            tokens: int64 [B, T].
            documents: Number of the document that each token is of, int64 [B, T]: attention stays within a document, in
                which positions begin at 0. By default a sequence is one document.
            cache: What is remembered of the tokens before these, without `documents`; these are added to it.

        Returns:
            [B, T, vocabulary].
        """
        logits: Tensor = self.lm_head(self.model(tokens, documents, cache))
        return logits

    def transformers_config(self) -> dict[str, Any]:
        """Describe the model as the config.json of transformers' `LlamaForCausalLM` does; see `OfTransformers`."""
        body, widths = self.model, self.widths
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.lm_head.out_features,
            "hidden_size": widths.width,
            "intermediate_size": widths.hidden,
            "num_hidden_layers": len(body.layers),
            "num_attention_heads": widths.heads,
            "num_key_value_heads": widths.kv_heads,
            "head_dim": body.head_width,
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "rms_norm_eps": widths.eps,
            "rope_theta": body.rotary_base,
            "tie_word_embeddings": self.lm_head.weight is body.embed_tokens.weight,
            "attention_bias": False,
            "mlp_bias": False,
            "initializer_range": _DEVIATION,
        }

    def unlike(self, config: Mapping[str, Any]) -> list[str]:
        """Describe how a config.json differs in what parameters do not show; see `OfTransformers`."""
        rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
        theirs = {**config, **rotary, "rope_type": rotary.get("rope_type", rotary.get("type", "default"))}
        ours = self.transformers_config() | {"rope_type": "default"}
        return [
            f"{key} is {theirs[key]} instead of {ours[key]}"
            for key in _UNSEEN
            if theirs.get(key, ours[key]) != ours[key]
        ]


_UNSEEN = (
    "model_type", "num_attention_heads", "num_key_value_heads", "hidden_act", "rms_norm_eps", "rope_theta", "rope_type"
)  # fmt: skip
"""Entries of a config.json that parameters do not show."""


class _Widths(NamedTuple):
    """The widths of a block."""

    width: int
    heads: int
    kv_heads: int
    hidden: int
    eps: float


class _Body(nn.Module):
    """All but the last layer."""

    def __init__(self, vocabulary: int, layers: int, widths: _Widths, rotary_base: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, widths.width)
        self.layers = nn.ModuleList(_Block(widths, number) for number in range(layers))
        self.norm = nn.RMSNorm(widths.width, eps=widths.eps)
        self.head_width, self.rotary_base = widths.width // widths.heads, rotary_base

    def forward(self, tokens: Tensor, documents: Tensor | None, cache: KeyValueCache | None) -> Tensor:
        x = self.embed_tokens(tokens)
        before, length = len(cache) if cache else 0, tokens.shape[1]
        positions, mask = torch.arange(before, before + length, device=tokens.device), None
        if documents is not None:
            mask = (documents[:, :, None] == documents[:, None, :]).tril()
            positions = mask.sum(-1) - 1
            mask = mask[:, None]
        elif before:
            mask = positions[:, None] >= torch.arange(before + length, device=tokens.device)
        by = turn(positions[..., None], self.head_width, self.rotary_base, x.dtype)
        for layer in self.layers:
            x = layer(x, by, mask, cache)
        return self.norm(x)  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, widths: _Widths, number: int) -> None:
        super().__init__()
        self.self_attn = _Attention(widths, number)
        self.mlp = _SwiGLU(widths)
        self.input_layernorm = nn.RMSNorm(widths.width, eps=widths.eps)
        self.post_attention_layernorm = nn.RMSNorm(widths.width, eps=widths.eps)

    def forward(self, x: Tensor, by: Turn, mask: Tensor | None, cache: KeyValueCache | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), by, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, widths: _Widths, number: int) -> None:
        super().__init__()
        width, heads, kv_heads, *_ = widths
        self.number, self.head_width = number, width // heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, by: Turn, mask: Tensor | None, cache: KeyValueCache | None) -> Tensor:
        # [B, T, heads, width]
        query, key, value = (
            part(x).unflatten(-1, (-1, self.head_width)) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, by), rotate(key, by)
        if cache is not None:
            key, value = cache.extended(self.number, key, value)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        grouped = query.shape[1] != key.shape[1]
        found = functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=mask is None, enable_gqa=grouped
        )
        return self.o_proj(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _SwiGLU(nn.Module):
    """W_down (silu(W_gate x) ∘ W_up x)."""

    def __init__(self, widths: _Widths) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(widths.width, widths.hidden, bias=False)
        self.up_proj = nn.Linear(widths.width, widths.hidden, bias=False)
        self.down_proj = nn.Linear(widths.hidden, widths.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]
