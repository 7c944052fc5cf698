"""Generation: a language model continues a sequence of tokens."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from basinet.sim.models.language.decoder import Llama
from basinet.sim.models.language.key_value_cache import KeyValueCache

__all__ = ["check_settings", "choose", "generate"]


def generate(
    model: Llama | Callable[[Tensor], Tensor],
    prompt: Sequence[int],
    context: int,
    generator: torch.Generator,
    *,
    tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    end: int | None = None,
) -> Iterator[int]:
    """Continue a sequence of tokens, one by one.

    The model sees up to `context` tokens. When these are full, it goes on from the last half of them.

    Args:
        model: A decoder, or what maps tokens [1, T] to the logits [1, T, vocabulary] of the next ones.
        prompt: The tokens to be continued, at least one.
        context: Most tokens that the model sees.
        generator: Where random numbers come from.
        tokens: Most tokens to generate.
        temperature: By how much logits are divided; 0 for the most probable token.
        top_k: How many of the most probable tokens are allowed; None for all.
        top_p: Only the most probable tokens are allowed, as many as it takes to reach this probability.
        end: The token at which the text ends, which is not returned; None for none.

    Yields:
        The tokens.

    Raises:
        ValueError: A setting or token is impossible, or the model's outputs are not finite.
    """
    if not prompt:
        raise ValueError("prompt: it is empty; at least one token is needed")
    check_settings(tokens=tokens, temperature=temperature, top_k=top_k, top_p=top_p)
    seen, cache, pending = list(prompt)[-context:], KeyValueCache(), len(prompt[-context:])
    for _ in range(tokens):
        if len(seen) > context:
            seen, cache = seen[-max(1, context // 2) :], KeyValueCache()
            pending = len(seen)
        token = choose(_logits(model, seen, pending, cache), temperature, top_k, top_p, generator)
        if token == end:
            return
        yield token
        seen.append(token)
        pending = 1


def check_settings(
    *, tokens: int, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0, seed: int = 0
) -> None:
    """Check the settings of a generation.

    Args:
        tokens: As for `generate`, like those that follow.
        temperature: By how much logits are divided.
        top_k: How many tokens are allowed.
        top_p: The probability that the allowed ones reach.
        seed: Seed of the generator.

    Raises:
        ValueError: One is impossible.
    """
    if tokens < 0:
        raise ValueError(f"tokens: got {tokens}; allowed are numbers of at least 0")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature: got {temperature}; allowed are numbers of at least 0")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k: got {top_k}; allowed are numbers of at least 1")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: got {top_p}; allowed are numbers above 0, and up to 1")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: got {seed}; allowed are whole numbers from 0 to {2**63 - 1}")


@torch.no_grad()
def _logits(model: Llama | Callable[[Tensor], Tensor], seen: list[int], pending: int, cache: KeyValueCache) -> Tensor:
    """Return the logits [vocabulary] of the next token, where all but the last tokens have been read."""
    if isinstance(model, Llama):
        size = model.lm_head.out_features
        unknown = next((token for token in seen[-pending:] if not 0 <= token < size), None)
        if unknown is not None:
            raise ValueError(f"prompt: got the token {unknown}; the model has {size}")
        device = model.lm_head.weight.device
        return model(torch.tensor([seen[-pending:]], device=device), cache=cache)[0, -1]  # type: ignore[no-any-return]
    return model(torch.tensor([seen]))[0, -1]


def choose(logits: Tensor, temperature: float, top_k: int | None, top_p: float, generator: torch.Generator) -> int:
    """Choose the next token.

    Args:
        logits: Of each token, [vocabulary].
        temperature: As for `generate`, like the other settings.
        top_k: How many tokens are allowed.
        top_p: The probability that the allowed ones reach.
        generator: Where random numbers come from.

    Returns:
        The token.

    Raises:
        ValueError: A logit is not finite.
    """
    logits = logits.to("cpu", torch.float64)
    if not bool(logits.isfinite().all()):
        raise ValueError("the model's outputs are not finite")
    order = logits.argsort(descending=True, stable=True)
    if temperature == 0:
        return int(order[0])
    order = order[:top_k]
    probabilities = ((logits[order] - logits[order[0]]) / temperature).softmax(0)
    needed = probabilities.cumsum(0) - probabilities < top_p  # at least the first
    return int(order[torch.multinomial(probabilities * needed, 1, generator=generator)])
