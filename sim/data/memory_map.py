"""Items kept in files that are mapped into memory, made once and shared by all that read the same items.

CACHE/KEY/          KEY is a digest of the items' source
    leaf0.bin …     the numbers of each part of the items, one item after another
    shapes0.npy …   the shape of the part in each item, int64 [n, dimensions]
    done.json       lengths and checksums of the files, and types of the parts
CACHE/KEY.partial/  the same while it is being made
CACHE/KEY.lock      held meanwhile

Items that are kept separately have a folder each, and share the lock CACHE/separate.lock.
"""

import fcntl
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basinet.sim.data.items import Items
from basinet.sim.data.nests import Nest, leaves, map_values, rebuild
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import ExperimentError, first_line

__all__ = ["Mapped", "Separate", "cache_folder", "cached", "cached_separately"]

_log = logging.getLogger(__name__)

_DONE = "done.json"

_SECONDS = 20
"""After which it is said again how many items are written."""

_BLOCK, _BLOCKS = 2**16, 256
"""Bytes of a block, and most blocks of a file that its checksum covers, so that a large one is not read as a whole."""

_ENDS = 2
"""Most blocks of an item that is kept separately, of which there may be thousands."""

_NAMED = 5
"""Most items whose faults are told."""


class Mapped:
    """Items in files that are mapped into memory.

    Args:
        folder: The folder of the files.
        like: The first item, for the structure of all.
    """

    def __init__(self, folder: Path, like: Nest) -> None:
        self.folder, self.like = folder, like

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "like": self.like}

    @cached_property
    def _parts(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The numbers, the shapes and the places of each part."""
        found = []
        for place, kind in enumerate(_record(self.folder)["types"]):
            shapes = np.load(self.folder / f"shapes{place}.npy")
            ends = np.cumsum(shapes.prod(axis=1, dtype=np.int64))
            numbers = np.memmap(self.folder / f"leaf{place}.bin", dtype=kind, mode="r", shape=(int(ends[-1]),))
            # As a plain array, of which views are made faster.
            found.append((np.asarray(numbers), shapes, np.concatenate([[0], ends])))
        return found

    def __len__(self) -> int:
        return len(self._parts[0][1])

    def __getitem__(self, row: int) -> Nest:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return rebuild(self.like, [torch.from_numpy(np.array(part)) for part in self.arrays(row)])

    def arrays(self, row: int) -> list[np.ndarray]:
        """Return the parts of an item as views of the files, so that some of it is read without the rest.

        Args:
            row: Its index.

        Returns:
            Arrays that cannot be written to.
        """
        return [t[at[row] : at[row + 1]].reshape(shapes[row]) for t, shapes, at in self._parts]

    @property
    def is_uniform(self) -> bool:
        """Whether all items have the same shapes."""
        return all(bool((shapes == shapes[0]).all()) for _, shapes, _ in self._parts)


class _Uniform(Mapped):
    """Items that all have the same shapes, so that several are read at once."""

    def gather(self, rows: Tensor) -> Nest:
        """Read several items of the same shape.

        Args:
            rows: Their indices, int64 [B].

        Returns:
            A nest of tensors [B, ...].
        """
        found = [torch.from_numpy(t.reshape(len(self), *shapes[0])[rows.numpy()]) for t, shapes, _ in self._parts]
        batch = rebuild(self.like, found)
        return tuple(batch) if type(batch) is list else batch


class Separate:
    """Items of one part, each in files of its own that are mapped into memory.

    Args:
        folder: The folder of all of them.
        keys: Names of their folders.
        like: Such a part.
    """

    def __init__(self, folder: Path, keys: Sequence[str], like: Tensor) -> None:
        self.folder, self.keys, self.like = folder, keys, like

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "keys": self.keys, "like": self.like}

    @cached_property
    def _items(self) -> list[Mapped]:
        return [Mapped(self.folder / key, self.like) for key in self.keys]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> Nest:
        return self._items[row][0]

    def arrays(self, row: int) -> list[np.ndarray]:
        """Return an item as a view of its file; see `Mapped.arrays`."""
        return self._items[row].arrays(0)


def cache_folder() -> Path:
    """Return the folder of the user's for what can be made again: ~/.cache/basinet, or that of XDG_CACHE_HOME."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "basinet"
    except RuntimeError as error:
        raise ExperimentError("task.cache: this user has no home folder; give a folder") from error


def cached(items: Items, folder: Path) -> Mapped:
    """Keep the items of a data set in files, unless they are there already.

    Args:
        items: Their source holds nests of tensors, arrays and numbers.
        folder: The folder of all such files.

    Returns:
        The same items, as a source.

    Raises:
        ExperimentError: The folder cannot be written, or items hold something else or differ in structure.
    """
    like = _as_tensors(items, 0)
    key = getattr(items.source, "fingerprint", None) or digest([items.source, like])
    place = folder.absolute() / key
    try:
        if not _is_whole(place, like):  # what is whole may belong to another user
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder / f"{key}.lock"):
                if not _is_whole(place, like):  # unless another process has written it
                    size = len(items) * sum(t.nbytes for t in leaves(like)) / 1e9
                    _log.warning(
                        "task.cache: writing the %d items of %s (some %.2g GB) to %s",
                        len(items),
                        items.name,
                        size,
                        place,
                    )
                    _make(items, range(len(items)), like, place)
    except OSError as error:
        raise ExperimentError(f"task.cache: {first_line(error)}") from error
    mapped = Mapped(place, like)
    return _Uniform(place, like) if mapped.is_uniform else mapped


def cached_separately(items: Items, keys: Sequence[str], like: Tensor, folder: Path) -> Separate:
    """Keep each item of a data set in files of its own, unless they are there already.

    Other data sets with some of these items share them, and items that cannot be read do not lose the others.

    Args:
        items: Their source holds tensors.
        keys: What identifies each.
        like: An empty tensor of the type and number of dimensions of an item.
        folder: The folder of all such files.

    Returns:
        The same items, as a source.

    Raises:
        ExperimentError: The folder cannot be written, or some items cannot be read, which are told when all others are
            written.
    """
    folder, faults = folder.absolute(), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [row for row, key in enumerate(keys) if not _is_whole(folder / key, like, _ENDS)]
        if missing:
            _log.warning("task.cache: writing %d of the %d %s to %s", len(missing), len(keys), items.name, folder)
        for row in _slowly(missing):
            with _alone(folder / "separate.lock"):
                if not _is_whole(folder / keys[row], like, _ENDS):  # unless another process has written it
                    try:
                        _make(items, [row], like, folder / keys[row], _ENDS)
                    except ExperimentError as error:
                        faults.append(str(error).removeprefix("task: "))
    except OSError as error:
        raise ExperimentError(f"task.cache: {first_line(error)}") from error
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        count = f"{len(faults)} of the {len(keys)} {items.name} cannot be used: " if len(faults) > 1 else ""
        raise ExperimentError(f"task: {count}{'; '.join(faults[:_NAMED])}{more}")
    return Separate(folder, keys, like)


def _slowly(rows: Sequence[int]) -> Iterator[int]:
    """Iterate over items, and say now and then how many are written."""
    said = time.monotonic()
    for place, row in enumerate(rows):
        if time.monotonic() > said + _SECONDS:
            said = time.monotonic()
            _log.warning("task.cache: %d of %d items are written", place, len(rows))
        yield row


def _make(items: Items, rows: Sequence[int], like: Nest, place: Path, blocks: int = _BLOCKS) -> None:
    """Write items to the files in a folder."""
    first = leaves(like)
    shapes: list[list[tuple[int, ...]]] = [[] for _ in first]
    making = place.with_name(f"{place.name}.partial")
    shutil.rmtree(making, ignore_errors=True)  # of a process that was killed
    making.mkdir()
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(open(making / f"leaf{number}.bin", "wb")) for number in range(len(first))]
            for row in _slowly(rows):
                found = leaves(_as_tensors(items, row))
                if [(t.dtype, t.ndim) for t in found] != [(t.dtype, t.ndim) for t in first]:
                    raise ExperimentError(
                        f"task.cache: item {row} of {items.name} has other parts or types than item 0"
                    )
                for t, file, seen in zip(found, files, shapes, strict=True):
                    file.write(t.contiguous().numpy().tobytes())
                    seen.append(tuple(t.shape))
        for number, (t, seen) in enumerate(zip(first, shapes, strict=True)):
            np.save(making / f"shapes{number}.npy", np.array(seen, dtype=np.int64).reshape(len(rows), t.ndim))
        record = {"files": {file.name: _seal(file, blocks) for file in making.iterdir()}, "types": _types(like)}
        (making / _DONE).write_text(json.dumps(record), encoding="utf-8")
        for path in (*making.iterdir(), making):  # or a power failure may leave the name without the bytes
            _to_disk(path)
        shutil.rmtree(place, ignore_errors=True)  # what is not whole
        making.rename(place)
        _to_disk(place.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _record(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / _DONE).read_text(encoding="utf-8"))
    return found


def _is_whole(place: Path, like: Nest, blocks: int = _BLOCKS) -> bool:
    """Return whether all files of such items are there, and none is seen to be damaged."""
    try:
        record = _record(place)
        wanted = {name for number in range(len(leaves(like))) for name in _files(number)}
        return (
            record["types"] == _types(like)
            and {*record["files"]} == wanted
            and all(_seal(place / name, blocks) == seal for name, seal in record["files"].items())
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError):  # a damaged record may hold anything
        return False


def _files(number: int) -> tuple[str, str]:
    """Return the names of the files of a part."""
    return f"leaf{number}.bin", f"shapes{number}.npy"


def _types(like: Nest) -> list[str]:
    return [t.numpy().dtype.str for t in leaves(like)]


def _seal(file: Path, blocks: int) -> list[int]:
    """Return the length of a file, and a checksum of it: of all of a small one, of evenly spaced blocks of another."""
    size, found = file.stat().st_size, 0
    last = max(0, size - _BLOCK)
    count = min(blocks, -(-size // _BLOCK))
    with open(file, "rb") as opened:
        for number in range(count):
            opened.seek(last * number // max(1, count - 1))
            found = zlib.crc32(opened.read(_BLOCK), found)
    return [size, found]


def _to_disk(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _as_tensors(items: Items, row: int) -> Nest:
    """Read an item, and convert its arrays and numbers to tensors."""

    def convert(part: Any) -> Tensor:
        if isinstance(part, Tensor):
            return part.detach()
        if isinstance(part, np.ndarray | np.generic | bool | int | float):
            return torch.as_tensor(part, dtype=torch.float64 if isinstance(part, float) else None)
        raise ExperimentError(
            f"task.cache: item {row} of {items.name} holds a {type(part).__name__}; allowed are tensors, arrays and"
            " numbers"
        )

    return map_values(convert, items.item(row))


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Wait for the lock of a file within this context."""
    with open(file, "w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
