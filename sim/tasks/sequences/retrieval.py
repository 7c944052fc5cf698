"""Pairs of texts that belong together or not, byte by byte."""

import math
from itertools import islice, repeat
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from basinet.algorithms.draws import key
from basinet.sim.setup.memory import require_memory
from basinet.sim.tasks.left_out import READ, check_left_out
from basinet.sim.tasks.sequences.arena_files import label_of, read_tsv
from basinet.sim.tasks.sequences.byte_sequences import (
    ByteSequences,
    PassageTask,
    byte_task,
    library_passages,
    package_of,
)
from basinet.sim.tasks.task import TASKS, Task

__all__ = ["retrieval"]

_TEST_SHARE = 0.25
_TRIES = 10_000
"""How many pairs in a row may have been drawn before."""

_COLUMNS = ("label", "id1", "id2", "text1", "text2")


_Place = tuple[str, int]
"""A module and the place of one of its passages."""


@TASKS.register()
def retrieval(
    *,
    path: str | None = None,
    test_split: Literal["test", "eval"] = "test",
    length: Annotated[int, Field(ge=16, le=2**16)] | None = None,
    lazy: bool | Literal["auto"] = "auto",
    train_size: Annotated[int, Field(ge=2)] | None = None,
    test_size: Annotated[int, Field(ge=2)] | None = None,
    seed: int = 0,
) -> Task:
    """Pair passages of the same module (class 1) or of two modules (class 0), or read the Long Range Arena's pairs.

    Inputs are tokens, int64 [n, 2, length]: 1 + byte, then 0s. The modules are those of Python's standard library, a
    quarter of them for the test data, so that results differ between versions of Python; the record of a run says which
    it was. A module is drawn for a pair, then its passages, all of which differ; half of the pairs have the second one
    from another module. Samples may be partitioned by the columns `package` and `module`, those of the first passage.

    In the files of the Long Range Arena, the texts are papers of the ACL Anthology Network, and one cites the other
    (class 1) or not. The column is `paper`, the first one's name.

    Args:
        path: Folder of the Long Range Arena's new_aan_pairs.train.tsv and others, which are read instead.
        test_split: Which of its files are the test data, new_aan_pairs.test.tsv or new_aan_pairs.eval.tsv.
        length: Tokens of a sequence, by default 256, or 4,000 of the papers; longer texts are cut off.
        lazy: Whether papers become tokens when they are needed; "auto" if all do not fit well into memory.
        train_size: Training pairs: by default 8,000, or all of a file.
        test_size: Test pairs: by default 2,000, or all of a file.
        seed: Seed of the split and the pairs; the simulator supplies it.

    Returns:
        A task of two classes.

    Raises:
        ValueError: If there are not as many pairs, Python has no sources, or a file cannot be read, has a line of fewer
            than five values or a label that is neither 0 nor 1.

    References:
        D. Radev et al.: The ACL Anthology Network corpus, 2013, doi:10.1007/s10579-012-9211-2.
        Y. Tay et al.: Long range arena, ICLR 2021, arXiv:2011.04006.

    Example:
        >>> task = retrieval(train_size=4, test_size=2)
        >>> task.input_shape, task.train[1].tolist()
        ((2, 256), [0, 1, 0, 1])
    """
    if path is not None:
        bytes_read = 4_000 if length is None else length
        train = _read(Path(path) / "new_aan_pairs.train.tsv", bytes_read, train_size)
        test = _read(Path(path) / f"new_aan_pairs.{test_split}.tsv", bytes_read, test_size)
        return byte_task(train[0], test[0], 2, {"paper": np.array(train[1])}, lazy=lazy)
    check_left_out(retrieval, READ, test_split=test_split, lazy=lazy)
    bytes_read = 256 if length is None else length
    passages = library_passages(bytes_read)
    modules = np.array([name for name, found in passages.items() if len(found) > 1])
    border = round(_TEST_SHARE * len(modules))
    if border < 2:
        raise ValueError(
            f"retrieval: {len(modules)} modules have two passages of {bytes_read} bytes, too few for training and test"
            " data; allowed is a smaller length"
        )
    sizes = {"train": 8_000 if train_size is None else train_size, "test": 2_000 if test_size is None else test_size}
    order = np.random.default_rng(key(seed, "retrieval", "split")).permutation(len(modules))
    counts = {}
    for where, rows in (("train", order[border:]), ("test", order[:border])):
        counts[where] = {name: len(passages[name]) for name in modules[np.sort(rows)].tolist()}
        _check_count(where, sizes[where], [*counts[where].values()])
    total = sum(sizes.values())
    each = 2 * bytes_read * (2 + 8)  # bytes of the tokens, as int16 and then as int64
    require_memory(each * total, f"retrieval: {total:,} pairs of passages of {bytes_read:,} bytes")
    parts = {}
    for where, size in sizes.items():
        pairs = _pairs(counts[where], size, key(seed, "retrieval", where))
        texts = [tuple(passages[name][place] for name, place in pair) for pair in pairs]
        same = [int(first[0] == second[0]) for first, second in pairs]
        parts[where] = ByteSequences(texts, bytes_read, same)
        if where == "train":
            first = np.array([pair[0][0] for pair in pairs])
    columns = {"package": np.array([package_of(name) for name in first.tolist()]), "module": first}
    return PassageTask.of(parts["train"], parts["test"], 2, columns)


def _check_count(where: str, size: int, counts: list[int]) -> None:
    """Raise if modules of so many passages do not have as many pairs, half of them of one module up to one."""
    same = sum(map(math.comb, counts, repeat(2)))
    most = min(2 * same + 1, 2 * (math.comb(sum(counts), 2) - same))
    if size > most:
        raise ValueError(f"retrieval: {where}_size is {size}; allowed are at most the {most} pairs that there are")


def _pairs(counts: dict[str, int], size: int, source: int) -> list[tuple[_Place, _Place]]:
    """Draw different pairs of passages, as many of the same module as of two modules, up to one."""
    rng = np.random.default_rng(source)
    names = list(counts)
    known: set[frozenset[_Place]] = set()
    pairs: list[tuple[_Place, _Place]] = []
    for same in rng.permutation(np.arange(size) % 2).tolist():
        for _ in range(_TRIES):
            number = int(rng.integers(len(names)))
            module, place = names[number], int(rng.integers(counts[names[number]]))
            if same:
                other = module, (place + 1 + int(rng.integers(counts[module] - 1))) % counts[module]
            else:
                name = names[(number + 1 + int(rng.integers(len(names) - 1))) % len(names)]
                other = name, int(rng.integers(counts[name]))
            pair = (module, place), other
            if frozenset(pair) not in known:
                break
        else:
            raise ValueError(
                f"retrieval: after {len(pairs)} of {size} pairs, {_TRIES:,} in a row had been drawn before; allowed are"
                " fewer, or a smaller length"
            )
        known.add(frozenset(pair))
        pairs.append(pair)
    return pairs


def _read(file: Path, length: int, size: int | None) -> tuple[ByteSequences, list[str]]:
    """Read pairs of papers, and the names of the first ones."""
    rows = islice(read_tsv(file, "retrieval", _COLUMNS, header=False), size)
    texts, targets, names = [], [], []
    for place, (label, name, _, first, second) in rows:
        targets.append(label_of(label, place, 2))
        texts.append((first.encode()[:length], second.encode()[:length]))
        names.append(name)
    return ByteSequences(texts, length, targets), names
