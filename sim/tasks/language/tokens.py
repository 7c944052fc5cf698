"""Tokens: bytes, or pieces of text that byte-pair encoding has found."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import first_line, reason_of
from basinet.sim.tasks.kept import Kept

if TYPE_CHECKING:
    import tokenizers

__all__ = ["BPE", "END_OF_TEXT", "Bytes", "Tokens", "check_logits", "make_tokens", "train_bpe"]

END_OF_TEXT = "<|endoftext|>"

_ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>")
"""What tokenizers call the end of a text."""


_ALLOWED = "allowed are byte-level tokenizers like GPT-2's or Llama 3's"

_PROBE = "".join(map(chr, range(256))) + " e\u0301 \ufb01  Aa\n\n中文 😀"
"""Text that a tokenizer has to restore: all characters of Latin-1, other ones, and spaces."""


def _letters() -> list[str]:
    """Return what byte-level tokenizers write for each byte: visible Latin-1, and letters from 256 on, as in GPT-2."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(256 + others.index(byte)) for byte in range(256)]


class Tokens(ABC):
    """A vocabulary of tokens, each of which stands for a sequence of bytes.

    Attributes:
        size: Number of different tokens.
        end: The token that stands between texts, and for no bytes.
        lengths: Number of bytes that each token stands for, int64 [size].
        content: The same vocabulary as the package `tokenizers` writes it, the content of a tokenizer.json.
    """

    size: int
    end: int
    lengths: Tensor
    content: str

    @property
    def identity(self) -> str:
        """A digest of what each token stands for."""
        known = json.loads(self.content)
        words = known["model"]["vocab"] | {t["content"]: t["id"] for t in known.get("added_tokens", [])}
        return digest([sorted(words.items()), self.end])

    @property
    def kept(self) -> Kept:
        """What a run keeps of them: the content, unless every machine has the same."""
        return Kept(self.identity, self.content)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Turn text into tokens.

        Args:
            text: The text; bytes that are not UTF-8 are written as lone surrogates ("surrogateescape").

        Returns:
            The tokens, without one for the end.
        """

    @abstractmethod
    def decode(self, tokens: Iterable[int]) -> str:
        """Turn tokens into text.

        Args:
            tokens: The tokens.

        Returns:
            The text, without the ends of texts; bytes that are not UTF-8 become U+FFFD.
        """

    def bytes_in(self, tokens: Tensor) -> Tensor:
        """Count the bytes that tokens stand for.

        Args:
            tokens: The tokens, int64, of any shape.

        Returns:
            The numbers of bytes, int64, in the same shape.
        """
        return self.lengths.to(tokens.device)[tokens]


class Bytes(Tokens):
    """The 256 bytes, and the end of a text as token 256.

    Example:
        >>> Bytes().encode("é!"), Bytes().decode([195, 169, 33, 256])
        ([195, 169, 33], 'é!')
    """

    size, end = 257, 256
    lengths = torch.tensor([1] * 256 + [0])

    @property
    def kept(self) -> Kept:
        """What a run keeps of them; see `Tokens`."""
        return Kept(self.identity)

    @property
    def content(self) -> str:  # type: ignore[override]
        """Byte-pair encoding that merges nothing; see `Tokens`."""
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        end = {"id": self.end, "content": END_OF_TEXT, "special": True}
        end |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        model = {"type": "BPE", "vocab": {letter: byte for byte, letter in enumerate(_letters())}, "merges": []}
        return json.dumps({"added_tokens": [end], "pre_tokenizer": level, "decoder": level, "model": model})

    def encode(self, text: str) -> list[int]:
        """Turn text into its bytes in UTF-8; see `Tokens`."""
        return list(text.encode("utf-8", "surrogateescape"))

    def decode(self, tokens: Iterable[int]) -> str:
        """Turn bytes into text; see `Tokens`."""
        return bytes(token for token in tokens if token != self.end).decode("utf-8", "replace")


class BPE(Tokens):
    """Byte-level byte-pair encoding (Sennrich et al., 2016, arXiv:1508.07909; on bytes as in GPT-2).

    Args:
        content: A tokenizer as the package `tokenizers` writes it, the content of a tokenizer.json.
        name: What it is, for error messages.

    Raises:
        ImportError: If `tokenizers` is not installed.
        ValueError: If it is no byte-level tokenizer that restores every text, or has no token for the end of a text.
    """

    def __init__(self, content: str, name: str = "the tokenizer") -> None:
        self.content, self.name = content, name
        try:
            known = json.loads(content)
            words = self.tokenizer.get_vocab(with_added_tokens=True)
        except ImportError:
            raise
        except Exception as error:  # tokenizers raises nothing more specific
            raise ValueError(f"tokens: {name} is no tokenizer.json: {first_line(error)}") from error
        if "ByteLevel" not in json.dumps(known.get("decoder")) or not isinstance(known["model"].get("vocab"), dict):
            raise ValueError(
                f"tokens: {name} is not a byte-level tokenizer, by which text could be restored; {_ALLOWED}"
            )
        ends = [words[end] for end in _ENDS if end in words]
        if not ends:
            raise ValueError(f"tokens: {name} has no token for the end of a text; allowed are {', '.join(_ENDS)}")
        self.end = ends[0]
        self.size = 1 + max(words.values())
        self.lengths = torch.zeros(self.size, dtype=torch.int64)
        added = {token["content"]: token["special"] for token in known.get("added_tokens", [])}
        for word, token in words.items():  # one character for each byte, unless the word was added as it is
            self.lengths[token] = len(word) if word not in added else 0 if added[word] else len(word.encode())
        if changed := self._changes(known, [word for word, special in added.items() if not special]):
            raise ValueError(f"tokens: {name} does not restore every text: {changed}; {_ALLOWED}")

    def _changes(self, known: Mapping[str, Any], added: Iterable[str]) -> str:
        """Say how text is changed by being turned into tokens and back; "" if it is not."""
        if known.get("normalizer") is not None:
            return f"its normalizer {known['normalizer'].get('type')} changes it"
        if missing := next((letter for letter in _letters() if letter not in known["model"]["vocab"]), None):
            return f"it has no token for the byte {_letters().index(missing)}"
        text = "".join([_PROBE, *(f"  {word}  a{word}" for word in added)])
        restored = self.decode(self.encode(text))
        if restored == text:
            return ""
        differ = (place for place, (a, b) in enumerate(zip_longest(text, restored)) if a != b)
        first = max(0, next(differ) - 1)
        return f"{text[first : first + 9]!r} becomes {restored[first : first + 9]!r}"

    @cached_property
    def tokenizer(self) -> "tokenizers.Tokenizer":
        """The tokenizer, in this process."""
        made: tokenizers.Tokenizer = _package().Tokenizer.from_str(self.content)
        made.encode_special_tokens = True  # "<|endoftext|>" in a text is text
        made.no_truncation()
        made.no_padding()
        if hasattr(made.model, "dropout"):
            made.model.dropout = None
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "tokenizer"}

    def encode(self, text: str) -> list[int]:
        """Turn text into tokens; see `Tokens`.

        Args:
            text: The text.

        Returns:
            The tokens.

        Raises:
            ValueError: If the text is not Unicode.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"tokens: a text is not UTF-8, which {self.name} needs; allowed is 'bytes'") from None
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def decode(self, tokens: Iterable[int]) -> str:
        """Turn tokens into text; see `Tokens`."""
        text: str = self.tokenizer.decode([*tokens], skip_special_tokens=True)
        return text


def train_bpe(texts: Iterable[str], size: int) -> BPE:
    """Find the pieces of text that byte-pair encoding merges, the same whenever it is repeated.

    Args:
        texts: Texts.
        size: Number of tokens, at least 257: the end of a text, the 256 bytes and what these are merged to. Fewer if
            there is nothing left to merge.

    Returns:
        The tokens.

    Raises:
        ImportError: If `tokenizers` is not installed.
        ValueError: If a text is not Unicode.
    """
    package = _package()
    made = package.Tokenizer(package.models.BPE())
    made.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = package.decoders.ByteLevel()
    trainer = package.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(package.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    try:
        made.train_from_iterator(texts, trainer)
    except (TypeError, UnicodeEncodeError):  # a lone surrogate
        raise ValueError("tokens: a text is not UTF-8, which 'bpe' needs; allowed is 'bytes'") from None
    return BPE(made.to_str(), "'bpe'")


def make_tokens(kind: str, size: int | None, texts: Iterable[str]) -> Tokens:
    """Make the tokens that an experiment names.

    Args:
        kind: "bytes", "bpe", or a file tokenizer.json.
        size: Number of tokens of "bpe", None for 1,024; at most so many in a file.
        texts: Texts on which "bpe" is trained.

    Returns:
        The tokens.

    Raises:
        ValueError: If there is no such file, or it has more tokens than that, or bytes are given a size.
    """
    if kind == "bpe":
        return train_bpe(texts, 1024 if size is None else size)
    if kind == "bytes":
        if size is not None:
            raise ValueError(f"vocabulary: got {size}, which is for tokens: bpe, and tokens is {kind!r}")
        return Bytes()
    try:
        made = BPE(Path(kind).read_text(encoding="utf-8"), kind)
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"tokens: got {kind!r}, which cannot be read as a file ({reason_of(error)}); allowed are bytes, bpe, and"
            " the path of a tokenizer.json"
        ) from error
    if size is not None and made.size > size:
        raise ValueError(f"vocabulary: got {size}, and {kind} has {made.size} tokens; allowed are at least as many")
    return made


def check_logits(logits: Tensor, inputs: Tensor, tokens: Tokens) -> None:
    """Check that a model is one of language.

    Args:
        logits: Its outputs.
        inputs: Its inputs, [B, T].
        tokens: The tokens.

    Raises:
        ValueError: If the outputs are not those of every token at every place.
    """
    if logits.ndim != 3 or logits.shape[:2] != inputs.shape[:2] or logits.shape[2] < tokens.size:
        raise ValueError(
            "the task needs a language model, such as llama, whose outputs are the logits of each token at each place,"
            f" {(*inputs.shape[:2], tokens.size)}, and not {tuple(logits.shape)}"
        )


def _package() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            'Tokens other than bytes need the package tokenizers: pip install "basinet[language]"'
        ) from error
    return tokenizers
