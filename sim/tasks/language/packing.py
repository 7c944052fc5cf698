"""Packing: documents, joined by the token for the end of a text, in windows of equal length."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Windows", "pack", "packed"]


class Windows(NamedTuple):
    """Windows of T tokens.

    Attributes:
        inputs: Tokens, int64 [n, T].
        targets: The token that follows each of them, int64 [n, T].
        documents: The document of each input, counted from 0 in each window, int64 [n, T].
        first: The document in which each window begins, counted from 0 in the text, int64 [n].
    """

    inputs: Tensor
    targets: Tensor
    documents: Tensor
    first: Tensor


def pack(documents: Iterable[Sequence[int]], length: int, end: int) -> Iterator[Windows]:
    """Join documents and cut them into windows.

    The tokens are E d₁ E d₂ E … dₙ E, where E is the end of a text. A document's inputs are the E before it and its own
    tokens, and its targets are its tokens and the E behind it: its first token is predicted from E, and nothing but the
    document itself is needed for any of them. What does not fill the last window is left out.

    Args:
        documents: The tokens of each document; those without any are skipped.
        length: Tokens in a window, T.
        end: The token for the end of a text, E.

    Yields:
        The windows that a document completes.
    """
    tokens: NDArray[np.int64] = np.empty(0, np.int64)
    numbers = tokens
    for number, document in enumerate(documents):
        if len(document) == 0:
            continue
        tokens = np.concatenate([tokens, [end], np.asarray(document, np.int64)])
        numbers = np.concatenate([numbers, np.full(1 + len(document), number)])
        ready = (len(tokens) - 1) // length * length
        if ready:
            yield _cut(tokens[: ready + 1], numbers[:ready], length)
            tokens, numbers = tokens[ready:], numbers[ready:]
    if len(tokens) == length:
        yield _cut(np.append(tokens, end), numbers, length)


def _cut(tokens: NDArray[np.int64], numbers: NDArray[np.int64], length: int) -> Windows:
    inputs, targets, owners = (
        torch.from_numpy(part.reshape(-1, length).copy()) for part in (tokens[:-1], tokens[1:], numbers)
    )
    return Windows(inputs, targets, owners - owners[:, :1], owners[:, 0].clone())


def packed(documents: Iterable[Sequence[int]], length: int, end: int) -> Windows:
    """Pack documents in memory; see `pack`.

    Args:
        documents: The tokens of each document.
        length: Tokens in a window, T.
        end: The token for the end of a text.

    Returns:
        All windows; none if there are fewer than T tokens.
    """
    empty = torch.empty(0, length, dtype=torch.int64)
    parts = [Windows(empty, empty, empty, empty[:, 0]), *pack(documents, length, end)]
    return Windows(*(torch.cat(part) for part in zip(*parts, strict=True)))
