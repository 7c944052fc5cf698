"""A vocabulary of words."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import reason_of
from basinet.sim.tasks.kept import Kept

__all__ = ["PADDING", "UNKNOWN", "Words", "split_words"]

PADDING = 0
"""The token that fills up short texts, and stands for all of a text that is missing."""

UNKNOWN = 1
"""The token of all words that are not in the vocabulary."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def split_words(text: str) -> list[str]:
    """Split text into words: letters and digits, in lower case, without punctuation.

    Args:
        text: The text.

    Returns:
        The words.

    Example:
        >>> split_words("The surgeon's HOOK, again.")
        ['the', "surgeon's", 'hook', 'again']
    """
    return [word.replace("’", "'") for word in _WORD.findall(text.casefold())]


@dataclass(frozen=True)
class Words:
    """A vocabulary of words, each of which is a token; 0 is padding, and 1 stands for unknown words.

    Attributes:
        known: The words, of the tokens from 2 on.

    Example:
        >>> words = Words.of(["a hook", "the hook"])
        >>> words.known, words.encode("The red hook", 4).tolist()
        (('hook', 'a', 'the'), [4, 1, 2, 0])
    """

    known: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str], most: int | None = None) -> Self:
        """Make the vocabulary of texts.

        Args:
            texts: The texts.
            most: Largest number of words, the most frequent ones; None for all.

        Returns:
            The vocabulary, by frequency and then by the alphabet.
        """
        counts = Counter(word for text in texts for word in split_words(text))
        return cls(tuple(sorted(counts, key=lambda word: (-counts[word], word))[:most]))

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the vocabulary that a run has kept.

        Args:
            file: A JSON file, a list of the words.

        Returns:
            The vocabulary.

        Raises:
            ValueError: It cannot be read, or is no list of different words.
        """
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"words: {file} cannot be read: {reason_of(error)}") from error
        words = found if isinstance(found, list) else []
        if not words or any(not isinstance(word, str) or split_words(word) != [word] for word in words):
            raise ValueError(f"words: {file} holds something else than a list of words in lower case")
        if len({*words}) < len(words):
            raise ValueError(f"words: {file} has a word twice")
        return cls(tuple(words))

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return len(self.known) + 2

    @property
    def identity(self) -> str:
        """A digest of the words."""
        return self.kept.identity

    @cached_property
    def kept(self) -> Kept:
        """What a run keeps: the words."""
        return Kept(digest([self.known]), json.dumps(self.known, ensure_ascii=False))

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.known, 2)}

    def encode(self, text: str, length: int) -> NDArray[np.int64]:
        """Turn a text into tokens.

        Args:
            text: The text; none makes padding alone.
            length: Number of tokens, to which it is padded or cut.

        Returns:
            [length].
        """
        found = np.full(length, PADDING, dtype=np.int64)
        tokens = [self._tokens.get(word, UNKNOWN) for word in split_words(text)[:length]]
        found[: len(tokens)] = tokens
        return found

    def encode_all(self, texts: Sequence[str], length: int) -> NDArray[np.int64]:
        """Turn texts into tokens.

        Args:
            texts: The texts.
            length: Number of tokens of each.

        Returns:
            [number of texts, length].
        """
        return np.stack([self.encode(text, length) for text in texts]) if texts else np.zeros((0, length), np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """Turn tokens into text.

        Args:
            tokens: The tokens.

        Returns:
            The words without padding, and … for unknown ones.
        """
        return " ".join("…" if token == UNKNOWN else self.known[token - 2] for token in tokens if token != PADDING)
