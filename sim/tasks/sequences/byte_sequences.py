"""Texts as sequences of bytes, and passages of the text that every machine has."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.data.nests import Nest
from basinet.sim.experiment.digest import digest
from basinet.sim.setup.memory import require_memory
from basinet.sim.tasks.language.texts import edition, standard_library
from basinet.sim.tasks.supervised import supervised
from basinet.sim.tasks.task import Task

__all__ = ["ByteSequences", "PassageTask", "byte_task", "library_passages", "package_of"]

_VOCABULARY = 257


class ByteSequences:
    """Texts as tokens, read when they are needed: 1 + byte, then 0s. Longer texts are cut off.

    Args:
        texts: The texts, one or two for a sample.
        length: Tokens of a sequence.
        targets: Class of each sample.

    Attributes:
        tokens: int16 [n, length], or [n, 2, length].
        targets: int64 [n].
    """

    def __init__(self, texts: Sequence[tuple[bytes, ...]], length: int, targets: Sequence[int]) -> None:
        each = len(texts[0])
        require_memory(2 * len(texts) * each * length, f"{len(texts) * each:,} sequences of {length:,} bytes")
        tokens = torch.zeros(len(texts), each, length, dtype=torch.int16)
        for row, sample in enumerate(texts):
            for place, text in enumerate(sample):
                values = np.frombuffer(text[:length], np.uint8).astype(np.int16) + 1
                tokens[row, place, : len(values)] = torch.from_numpy(values)
        self.tokens = tokens if each > 1 else tokens[:, 0]
        self.targets = torch.tensor(targets)

    @property
    def fingerprint(self) -> str:
        """What identifies the content."""
        return digest([self.tokens, self.targets])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.tokens[row].long(), self.targets[row]

    def gather(self, rows: Tensor) -> Nest:
        """Read samples.

        Args:
            rows: Their indices, int64 [B].

        Returns:
            Tokens, int64 [B, ...], and classes.
        """
        return self.tokens[rows].long(), self.targets[rows]


def byte_task(
    train: ByteSequences,
    test: ByteSequences | None,
    classes: int,
    columns: Mapping[str, NDArray[Any]],
    *,
    lazy: bool | Literal["auto"],
) -> Task:
    """Make a task of byte sequences.

    Args:
        train: Training samples.
        test: Test samples, if there are any.
        classes: Number of classes.
        columns: What else is known of the training samples.
        lazy: Whether the bytes become tokens, of eight times the size, when they are needed; "auto" if all do not fit
            well into memory.

    Returns:
        A classification.
    """
    task = supervised(train, test, num_outputs=classes, classification=True, columns=columns, lazy=lazy)
    return replace(task, vocabulary=_VOCABULARY, padding=0, model="transformer")


@dataclass(frozen=True, kw_only=True)
class PassageTask(Task):
    """Classes of passages of the standard library.

    Attributes:
        source: Which edition of it, in words.
    """

    source: str

    keeps_apart: ClassVar[tuple[str, ...]] = ("module", "package")

    @classmethod
    def of(cls, train: ByteSequences, test: ByteSequences, classes: int, columns: Mapping[str, NDArray[Any]]) -> Task:
        """Make a task of byte sequences, as `byte_task` does.

        Args:
            train: Training samples.
            test: Test samples.
            classes: Number of classes.
            columns: What else is known of the training samples.

        Returns:
            The task.
        """
        task = byte_task(train, test, classes, columns, lazy=False)
        known = {field.name: getattr(task, field.name) for field in fields(Task)}
        return cls(**known, source=edition(standard_library()))

    @property
    def about_loss(self) -> str:
        """The loss, and the text, which differs between versions of Python, in words."""
        return f"{super().about_loss}; of passages from {self.source}"


@cache
def library_passages(length: int) -> Mapping[str, tuple[bytes, ...]]:
    """Cut the modules of the standard library into passages that do not overlap.

    Args:
        length: Most bytes of a passage.

    Returns:
        The passages of each module that has some, by its file: lines that follow each other, of at least half as many
        bytes; a line that is longer is cut off. Passages that occur more than once, such as licences, are left out.
    """
    found = {name: _passages(text, length) for name, text in standard_library().items()}
    counts = Counter(chain.from_iterable(found.values()))
    once = {name: tuple(each for each in passages if counts[each] == 1) for name, passages in found.items()}
    return MappingProxyType({name: passages for name, passages in once.items() if passages})


def _passages(text: str, length: int) -> tuple[bytes, ...]:
    passages, passage = [], b""
    for line in text.encode().splitlines(keepends=True):
        if passage and len(passage) + len(line) > length:
            passages.append(passage)
            passage = b""
        passage += line
    return tuple(passage[:length] for passage in (*passages, passage) if len(passage) >= (length + 1) // 2)


def package_of(module: str) -> str:
    """Name the package that a module of the standard library belongs to.

    Args:
        module: Its file, such as "json/decoder.py".

    Returns:
        The package at the top, such as "json"; for a module outside packages, the module.

    Example:
        >>> package_of("json/decoder.py"), package_of("abc.py")
        ('json', 'abc')
    """
    return module.partition("/")[0].removesuffix(".py")
