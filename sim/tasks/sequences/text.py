"""Classification of texts, byte by byte."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from basinet.algorithms.draws import key
from basinet.sim.experiment.mistakes import first_line, shown
from basinet.sim.tasks.left_out import GENERATED, READ, check_left_out
from basinet.sim.tasks.loaders.huggingface import Files, load_splits, numbered_labels
from basinet.sim.tasks.sequences.byte_sequences import (
    ByteSequences,
    PassageTask,
    byte_task,
    library_passages,
    package_of,
)
from basinet.sim.tasks.task import TASKS, Task

__all__ = ["text"]

_log = logging.getLogger(__name__)

_PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "unittest", "xml")
"""Packages of many modules that all versions of Python have."""

_TEST_SHARE = 0.25

_Samples = list[tuple[bytes, int, str]]
"""Texts with their classes, and the columns' values."""


@TASKS.register()
def text(
    *,
    path: str | None = None,
    name: str | None = None,
    train_split: str = "train",
    test_split: str = "test",
    column: str = "text",
    label: str = "label",
    data_files: Files | Mapping[str, Files] | None = None,
    lazy: bool | Literal["auto"] = "auto",
    packages: Sequence[str] = _PACKAGES,
    length: Annotated[int, Field(ge=16, le=2**16)] | None = None,
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    seed: int = 0,
) -> Task:
    """Tell the package that a passage of Python's standard library is from, or read texts such as the reviews of IMDB.

    Inputs are tokens, int64 [n, length]: 1 + byte, then 0s. Training and test passages are from different modules of
    the same packages, and differ between versions of Python; the record of a run says which it was. None occurs twice,
    and they may be partitioned by the column `module`.

    The Long Range Arena's texts are the reviews of IMDB: their folder aclImdb, or path stanfordnlp/imdb.

    Args:
        path: What is read instead: a folder of texts, PATH/train/CLASS/….txt and PATH/test/CLASS/….txt, or a data set
            as in the task huggingface.
        name: See huggingface.
        train_split: See huggingface.
        test_split: See huggingface.
        column: Column of the texts, if there are columns.
        label: Column of the classes.
        data_files: See huggingface.
        lazy: Whether texts that are read become tokens when they are needed; "auto" if all do not fit well into memory.
        packages: The packages, which are the classes.
        length: Tokens of a sequence, by default 256, or 4,096 of a path; longer texts are cut off.
        train_size: Training samples, chosen at random; by default all.
        test_size: Test samples, chosen at random; by default all.
        seed: Seed of the split and the choice; the simulator supplies it.

    Returns:
        A task with one output per class.

    Raises:
        ImportError: If `datasets` is needed and not installed.
        ValueError: If there are not as many samples, a package has no two modules with passages, or texts cannot be
            read.

    References:
        A. L. Maas et al.: Learning word vectors for sentiment analysis, ACL 2011, aclanthology.org/P11-1015.
        Y. Tay et al.: Long range arena, ICLR 2021, arXiv:2011.04006.

    Example:
        >>> task = text(packages=["email", "json"], length=128, train_size=10, test_size=5)
        >>> task.input_shape, task.num_outputs
        ((128,), 2)
    """
    bytes_read = length or (256 if path is None else 4_096)
    sizes = {"train": train_size, "test": test_size}
    of_columns: dict[str, Any] = {
        "name": name,
        "train_split": train_split,
        "test_split": test_split,
        "column": column,
        "label": label,
        "data_files": data_files,
    }
    if path is None:
        check_left_out(text, READ, lazy=lazy, **of_columns)
        classes, found = len(packages), _library(packages, bytes_read, seed)
    else:
        check_left_out(text, GENERATED, packages=packages)
        if any((Path(path) / "train").glob("*/*.txt")):
            check_left_out(text, "for columns; allowed with a folder of texts is to leave it out", **of_columns)
            classes, found = _folders(Path(path))
        else:
            classes, found = _rows(path, name, (train_split, test_split), data_files, column, label)
    chosen = {where: _choose(where, found[where], sizes[where], key(seed, "text", where)) for where in found}
    train, test = (
        ByteSequences([(content,) for content, *_ in samples], bytes_read, [label for _, label, _ in samples])
        for samples in chosen.values()
    )
    if path is None:
        modules = np.array([module for *_, module in chosen["train"]])
        return PassageTask.of(train, test, classes, {"module": modules})
    return byte_task(train, test, classes, {}, lazy=lazy)


def _choose(where: str, samples: _Samples, size: int | None, source: int) -> _Samples:
    """Choose samples at random, in the order in which they are."""
    if size is None:
        return samples
    if size > len(samples):
        raise ValueError(f"text: {where}_size is {size}; allowed are at most the {len(samples)} that there are")
    rows = np.random.default_rng(source).permutation(len(samples))[:size]
    return [samples[row] for row in np.sort(rows)]


def _library(packages: Sequence[str], length: int, seed: int) -> dict[str, _Samples]:
    """Cut the modules of packages into passages; some modules are for the test data."""
    if len(packages) < 2 or len(set(packages)) < len(packages):
        raise ValueError(f"text: packages is {shown(list(packages))}; allowed are two or more, each once")
    passages = library_passages(length)
    found: dict[str, _Samples] = {"train": [], "test": []}
    for label, package in enumerate(packages):
        modules = np.array([name for name in passages if package_of(name) == package])
        if len(modules) < 2:
            raise ValueError(
                f"text: the package {package!r} has {len(modules)} modules of {length // 2} bytes or more in this"
                f" Python; allowed are packages of two, such as {', '.join(_PACKAGES)}"
            )
        order = np.random.default_rng(key(seed, "text", package)).permutation(len(modules))
        border = _border(np.array([len(passages[name]) for name in modules[order].tolist()]))
        for where, rows in (("train", order[border:]), ("test", order[:border])):
            for name in modules[np.sort(rows)].tolist():
                found[where] += [(passage, label, name) for passage in passages[name]]
    return found


def _border(counts: NDArray[np.int64]) -> int:
    """Return how many of the first modules have about the wanted share of the passages; at least one, and not all."""
    distance = abs(counts.cumsum() - _TEST_SHARE * counts.sum())
    return 1 + int(distance[:-1].argmin())


def _folders(path: Path) -> tuple[int, dict[str, _Samples]]:
    """Read the texts of folders, those of the training data and of the test data."""
    files = {where: sorted((path / where).glob("*/*.txt")) for where in ("train", "test")}
    train, test = ({file.parent.name for file in found} for found in files.values())
    classes = sorted(train & test)
    if len(classes) < 2:
        raise ValueError(
            f"text: {path}/train and {path}/test have {len(classes)} folders of texts (.txt) in common; allowed are two"
            " or more, the classes"
        )
    for name in sorted(train ^ test):
        _log.warning("text: the folder %s is left out, since only one of train and test has it", name)
    found: dict[str, _Samples] = {}
    try:
        for where, some in files.items():
            named = [(file, file.parent.name) for file in some]
            found[where] = [(file.read_bytes(), classes.index(name), "") for file, name in named if name in classes]
    except OSError as error:
        raise ValueError(f"text: {first_line(error)}") from error
    return len(classes), found


def _rows(
    path: str,
    name: str | None,
    splits: tuple[str, str],
    data_files: Files | Mapping[str, Files] | None,
    column: str,
    label: str,
) -> tuple[int, dict[str, _Samples]]:
    """Read the texts of columns."""
    loaded = load_splits(path, name, splits, data_files, (column, label))
    labels, classes = numbered_labels(loaded, label)
    found: dict[str, _Samples] = {}
    for where, (split, data), own in zip(("train", "test"), loaded, labels, strict=True):
        found[where] = []
        for row, (content, number) in enumerate(zip(data[column][:], own.tolist(), strict=True)):
            if not isinstance(content, str):
                raise ValueError(
                    f"text: column {column!r} of split {split!r} has {shown(content)} in row {row}; allowed are texts"
                )
            found[where].append((content.encode(), number, ""))
    return classes, found
