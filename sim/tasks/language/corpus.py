"""Where text comes from: documents of the standard library, of local files or of a Hugging Face data set."""

from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import torch

from basinet.algorithms.draws import key, permutation
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import ExperimentError, reason_of
from basinet.sim.tasks.language.texts import manuals, standard_library
from basinet.sim.tasks.loaders.huggingface import load_split, loading

if TYPE_CHECKING:
    import datasets

__all__ = ["Document", "Source", "all_documents", "divided", "limited"]

Source = Literal["manuals", "standard_library"]

_NEARLY = 0.1
"""What may be missing from the test text, as a share of it."""


@dataclass(frozen=True)
class Document:
    """A text.

    Attributes:
        name: Its name: a file, a topic, or the number of a row.
        package: What it belongs to: the package or module of the standard library, or the folder of the file.
        text: The text; bytes that are not UTF-8 are lone surrogates ("surrogateescape").
    """

    name: str
    package: str
    text: str


class _Files(Sequence[Document]):
    """Files, read when they are needed."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    @property
    def fingerprint(self) -> str:
        """What identifies the content."""
        return digest([(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: Any) -> Any:
        file = self.files[place]
        try:
            text = file.read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
            raise ExperimentError(f"task.path: {file} cannot be read: {reason_of(error)}") from error
        return Document(str(file), file.parent.name, text)


class _Rows(Sequence[Document]):
    """The rows of a column of text."""

    def __init__(self, data: "datasets.Dataset", column: str) -> None:
        self.data, self.column = data.select_columns([column]), column

    @property
    def fingerprint(self) -> str:
        """What identifies the content, which `datasets` keeps track of."""
        return digest([self.data._fingerprint, self.column])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: Any) -> Any:
        text = self.data[place][self.column]
        return Document(str(place), "", text or "")


class _Some(Sequence[Document]):
    """Some of the documents."""

    def __init__(self, documents: Sequence[Document], places: Sequence[int]) -> None:
        self.documents, self.places = documents, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        return self.documents[self.places[place]]

    def __iter__(self) -> Iterator[Document]:
        return map(self.documents.__getitem__, self.places)


def all_documents(
    *,
    source: Source,
    path: str | None = None,
    dataset: str | None = None,
    name: str | None = None,
    split: str = "train",
    column: str = "text",
    data_files: Any = None,
) -> Sequence[Document]:
    """Find the documents of a text, without reading those in files.

    Args:
        source: The text of the standard library, unless one of the others is given.
        path: Local files.
        dataset: A Hugging Face data set.
        name: Its configuration.
        split: Its split.
        column: Its column of text.
        data_files: Its files.

    Returns:
        The documents.

    Raises:
        ImportError: If `datasets` is needed and not installed.
        ValueError: If there is none, or no such column.
    """
    if path is not None:
        files = [Path(file).absolute() for file in sorted(glob(path, recursive=True))]
        files = [file for file in files if file.is_file() and file.stat().st_size]
        if not files:
            raise ValueError(f"path: got {path!r}, and no file with any text is called so")
        return _Files(files)
    if dataset is not None:
        return _Rows(_loaded(dataset, name, split, column, data_files), column)
    texts = {"manuals": manuals, "standard_library": standard_library}[source]()
    return [Document(file, PurePosixPath(file).parts[0].removesuffix(".py"), text) for file, text in texts.items()]


def _loaded(path: str, name: str | None, split: str, column: str, data_files: Any) -> "datasets.Dataset":
    with loading(f"dataset: split {split!r} of {path!r}"):
        data = load_split(path, name, split, data_files)
    if column not in data.column_names:
        raise ValueError(
            f"column: got {column!r}, and split {split!r} of {path!r} has the columns {', '.join(data.column_names)}"
        )
    if getattr(data.features[column], "dtype", "") not in ("string", "large_string"):
        raise ValueError(f"column: {column!r} of {path!r} holds {data.features[column]}; allowed is text")
    return data


def limited(documents: Sequence[Document], size: int) -> Sequence[Document]:
    """Draw documents until they have some size, the same in every run.

    Args:
        documents: The documents.
        size: Bytes in all; the last document is cut, between two characters.

    Returns:
        The documents drawn, in their order; all if they are smaller.
    """
    taken: dict[int, Document] = {}
    left = size
    for place in _shuffled(len(documents), "documents"):
        document = documents[place]
        content = document.text.encode("utf-8", "surrogateescape")
        if len(content) > left:
            decoder = getincrementaldecoder("utf-8")("surrogateescape")  # leaves out a last character that is cut
            document = replace(document, text=decoder.decode(content[:left]))
        taken[place] = document
        left -= len(content)
        if left <= 0:
            break
    return [taken[place] for place in sorted(taken)]


def divided(documents: Sequence[Document], share: float) -> tuple[Sequence[Document], Sequence[Document]]:
    """Divide documents at random into those to train and those to test on, the same in every run.

    Args:
        documents: The documents.
        share: Share of the text to test on: documents are drawn that fit into it, until it is nearly full.

    Returns:
        Both, of several documents at least one each; of a single document, its beginning and its end.
    """
    if len(documents) == 1:
        whole = documents[0]
        cut = round((1 - share) * len(whole.text))
        return [replace(whole, text=whole.text[:cut])], [replace(whole, text=whole.text[cut:])]
    sizes = [len(document.text) for document in documents]
    wanted = left = share * sum(sizes)
    drawn: set[int] = set()
    for place in _shuffled(len(documents), "test documents"):
        if left > _NEARLY * wanted and sizes[place] <= left:
            drawn.add(place)
            left -= sizes[place]
    drawn = drawn or {min(range(len(sizes)), key=sizes.__getitem__)}
    train = [place for place in range(len(sizes)) if place not in drawn]
    return _Some(documents, train), _Some(documents, sorted(drawn))


def _shuffled(count: int, purpose: str) -> list[int]:
    order: list[int] = permutation(torch.tensor([key(0, purpose)]), torch.tensor([count]), count)[0].tolist()
    return order
