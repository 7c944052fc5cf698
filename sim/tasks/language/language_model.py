"""Language models: the next token of real text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from basinet.sim.data.rows import Data
from basinet.sim.experiment.digest import digest
from basinet.sim.tasks.calls import takes
from basinet.sim.tasks.forms import read
from basinet.sim.tasks.kept import Kept
from basinet.sim.tasks.language.corpus import Document, Source, all_documents, divided, limited
from basinet.sim.tasks.language.ngrams import ngram_baselines
from basinet.sim.tasks.language.packing import Windows, pack, packed
from basinet.sim.tasks.language.tokens import Tokens, check_logits, make_tokens
from basinet.sim.tasks.left_out import READ, check_left_out
from basinet.sim.tasks.loaders.huggingface import Files
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.tasks.task import TASKS, Batch, Task

__all__ = ["LanguageModel", "language_model"]

_OF_A_DATA_SET = "for a Hugging Face data set; allowed without one (dataset) is to leave it out"
_OF_PYTHON = "for text that every machine has; allowed with a path or a dataset is to leave it out"
_DRAWN = "for test text drawn here; allowed with other test text is to leave it out"

_TRAINED_ON = 2**26
"""Characters of the training text on which byte-pair encoding is trained at most."""


@dataclass(frozen=True, kw_only=True)
class LanguageModel(Task):
    """The prediction of each token from those before it, with the cross-entropy as the loss.

    A batch is (inputs, targets), int64 [B, T] each, or (inputs, documents, targets), where `documents` numbers the
    document of each input within its window.

    Attributes:
        tokens: The vocabulary, which turns text into tokens and back.
    """

    tokens: Tokens
    model: str = "llama"

    keeps_apart: ClassVar[tuple[str, ...]] = ("document",)
    loss_words: ClassVar[str] = "cross-entropy of the next token, in nats"

    @property
    def kept(self) -> dict[str, Kept]:
        """What a run keeps: the tokens."""
        return {"tokens": self.tokens.kept}

    @cached_property
    def ignores(self) -> bool:
        """Whether some labels are −100: none, since every token has a successor."""
        return False

    def outputs(self, model: Callable[..., Any], batch: Batch) -> Any:
        """Apply a language model to windows.

        Args:
            model: Returns the logits of the next token at each place, [B, T, V].
            batch: The batch.

        Returns:
            What the model returns.

        Raises:
            ValueError: If the model is none, or takes no documents.
        """
        if len(batch) == 3 and not takes(model, 2):
            raise ValueError(
                f"with separate: true, a model has to take (tokens, documents), which {type(model).__name__} does not;"
                " allowed are models that do, such as llama"
            )
        outputs = super().outputs(model, batch)
        check_logits(output_of(outputs), batch[0], self.tokens)
        return outputs

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what `evaluate` returns of the test data for n-gram models; see `ngram_baselines`."""
        return ngram_baselines(self, self.tokens)


@TASKS.register()
def language_model(
    *,
    source: Source = "manuals",
    path: str | None = None,
    test_path: str | None = None,
    dataset: str | None = None,
    name: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    column: str = "text",
    data_files: Files | Mapping[str, Files] | None = None,
    tokens: str = "bytes",
    vocabulary: Annotated[int, Field(ge=257, le=10**6)] | None = None,
    length: Annotated[int, Field(ge=1)] = 128,
    separate: bool = False,
    bytes: Annotated[int, Field(ge=1)] | None = None,
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    window: Annotated[int, Field(ge=1)] | None = None,
    cache: str | None = None,
) -> Task:
    """Predict the next token of text: of Python's standard library, of local files, or of a Hugging Face data set.

    Documents are joined by the token for the end of a text, and cut into windows of equal length; every token but the
    first end is a target once, but for a rest at the end. The first token of a document is predicted from that end.
    Samples may be partitioned by the columns `package` (top-level module, or folder of a file) and `document`: a window
    belongs to the document in which it begins.

    Args:
        source: Text that every machine has: the language's manual as `help()` shows it, half a megabyte, or the sources
            of the standard library, some ten. Both differ between versions of Python.
        path: Local files instead, a pattern such as "notes/**/*.txt"; each is a document, in any encoding.
        test_path: Files to test on.
        dataset: A Hugging Face data set instead: its name on the hub, a local folder, or a file format ("json",
            "parquet", "text") for `data_files`; each row is a document.
        name: Its configuration, if it has several.
        train_split: Its split to train on.
        test_split: Its split to test on.
        column: Its column of text.
        data_files: Its files of each split, unless `dataset` determines them.
        tokens: "bytes"; "bpe" for byte-level byte-pair encoding trained on the training text; or the path of a
            byte-level tokenizer.json.
        vocabulary: Number of tokens of "bpe", 1,024 by default.
        length: Tokens in a window, T.
        separate: Whether the model is told the documents, so that attention does not cross them.
        bytes: At most so many bytes of text, of documents drawn at random, the same in every run; by default all.
        test_share: Share of the text to test on, unless there is another: whole documents drawn at random, the same in
            every run. Of a single document, its end.
        window: For text larger than memory: tokens are made as they are needed, in the order of the text, and agents
            draw from so many windows of it at a time (`partition: in_turns`).
        cache: Folder in which tokens are kept in files that are mapped into memory, shared by all runs with the same
            text; see `supervised`.

    Returns:
        A task with one output per token.

    Raises:
        ImportError: If `tokenizers` or `datasets` is needed and not installed.
        ValueError: If there is no such text, or it is shorter than a window.

    Example:
        >>> task = language_model(bytes=20_000, length=32)
        >>> inputs, targets = task.train
        >>> inputs.shape[1], bool((inputs[:, 1:] == targets[:, :-1]).all()), task.num_outputs
        (32, True, 257)
    """
    _check_one_text(path=path, dataset=dataset)
    if path is None:
        check_left_out(language_model, READ, test_path=test_path)
    if dataset is None:
        of_dataset = {"name": name, "train_split": train_split, "test_split": test_split, "column": column}
        check_left_out(language_model, _OF_A_DATA_SET, **of_dataset, data_files=data_files)
    if path is not None or dataset is not None:
        check_left_out(language_model, _OF_PYTHON, source=source)
    if test_path is not None or test_split is not None:
        check_left_out(language_model, _DRAWN, test_share=test_share)

    def documents(where: str | None, split: str) -> Sequence[Document]:
        found = all_documents(
            source=source, path=where, dataset=dataset, name=name, split=split, column=column, data_files=data_files
        )
        return found if bytes is None else limited(found, bytes)

    train = documents(path, train_split)
    if test_path is None and test_split is None:
        train, test = divided(train, test_share)
    else:
        test = documents(test_path or path, test_split or train_split)
    made = make_tokens(tokens, vocabulary, _first(train))
    data: dict[str, Data] = {}
    columns: dict[str, NDArray[Any]] = {}
    for place, texts in (("train", train), ("test", test)):
        text = _Packed(texts, made, length, separate)
        data[place], first = text.in_memory() if window is None and cache is None else text.stored(place, window, cache)
        if len(first) == 0:
            raise ValueError(
                f"length: got {length}, and the {place} text is shorter than one window; allowed are shorter windows,"
                " or more text"
            )
        if place == "train" and window is None:
            columns = _columns(texts, first)
    task = LanguageModel(
        train=data["train"],
        test=data["test"],
        num_outputs=made.size,
        vocabulary=made.size,
        columns=columns,
        tokens=made,
    )
    task.check()
    return task


def _check_one_text(**given: str | None) -> None:
    if all(value is not None for value in given.values()):
        raise ValueError(f"{' and '.join(given)} are both given; allowed is one text")


def _first(documents: Sequence[Document]) -> Iterator[str]:
    """Iterate over the first texts, as many as byte-pair encoding is trained on."""
    left = _TRAINED_ON
    for document in documents:
        yield document.text[:left]
        left -= len(document.text)
        if left <= 0:
            return


def _columns(documents: Sequence[Document], first: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    known = [(document.package, document.name) for document in documents]
    packages, names = (np.array(column)[first] for column in zip(*known, strict=True))
    return {"package": packages, "document": names}


class _Packed:
    """The windows of a text, made anew whenever they are iterated over."""

    def __init__(self, documents: Sequence[Document], tokens: Tokens, length: int, separate: bool) -> None:
        self.documents, self.tokens, self.length, self.separate = documents, tokens, length, separate
        self.first: list[int] = []

    @property
    def fingerprint(self) -> str:
        """What identifies the content."""
        return digest([self.documents, self.tokens, self.length, self.separate])

    def _encoded(self) -> Iterator[list[int]]:
        return (self.tokens.encode(document.text) for document in self.documents)

    def _batch(self, windows: Windows) -> tuple[Tensor, ...]:
        inputs, targets, documents, _ = windows
        return (inputs, documents, targets) if self.separate else (inputs, targets)

    def in_memory(self) -> tuple[Data, NDArray[np.int64]]:
        """Pack all at once; return the samples, and the document in which each begins."""
        windows = packed(self._encoded(), self.length, self.tokens.end)
        return self._batch(windows), windows.first.numpy()

    def stored(self, name: str, window: int | None, cache: str | None) -> tuple[Data, NDArray[np.int64]]:
        """Pack when needed, or in files; return the same as `in_memory`."""
        if next(islice(self, 1), None) is None:
            return (), np.empty(0, np.int64)
        data = read(name, self, lazy=True, window=window, cache=cache)
        return data, np.array(self.first)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        first: list[int] = []
        for windows in pack(self._encoded(), self.length, self.tokens.end):
            first += windows.first.tolist()
            yield from zip(*self._batch(windows), strict=True)
        self.first = first  # known at the end

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "first": []}
