"""The forms in which users give data: data sets, lists of samples, and nests of tensors or arrays."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from basinet.sim.data.generators import restored_generators
from basinet.sim.data.items import Items, Transform
from basinet.sim.data.memory_map import cached
from basinet.sim.data.nests import Nest, fields_of, leaves, map_nest
from basinet.sim.data.rows import IGNORED, Data, Stored, length, take
from basinet.sim.data.streams import Stream, is_stream
from basinet.sim.setup.memory import memory
from basinet.sim.tasks.calls import targets_of
from basinet.sim.tasks.task_checks import check_weights

__all__ = ["Form", "check_alike", "is_data_set", "is_list_of_samples", "read"]

_SHARE_OF_MEMORY = 4
"""Data are read into memory if they take at most one part in so many of it."""


@dataclass(frozen=True)
class Form:
    """What a loss takes for targets.

    Attributes:
        kind: "classes" for class indices, int64; "numbers" for floating-point numbers [n, m]; "any" for whatever there
            is.
        target: The field that holds them; see `Task.target`.
        name: What the data are, for error messages.
        num_outputs: Number of classes, if it is known.
        weights: Computes the weights of a batch, to be checked.
    """

    kind: Literal["classes", "numbers", "any"]
    target: str | None
    name: str
    num_outputs: int | None = None
    weights: Callable[[Nest], Tensor] | None = None

    def __call__(self, batch: Nest, rows: Tensor | None = None) -> Nest:
        """Check and convert the targets of a batch.

        Args:
            batch: The batch.
            rows: Indices of its samples; None for 0, 1, …

        Returns:
            The batch, with its targets in this form.

        Raises:
            ValueError: They are not of this form, or a weight is negative or not finite.
        """
        if self.kind != "any":
            old = targets_of(batch, self.target)
            new = _numbers(old) if self.kind == "numbers" else self._classes(old, rows)
            batch = batch if new is old else map_nest(lambda part: new if part is old else part, batch)
        if self.weights is not None:
            check_weights(self.name, self.weights(batch), rows)
        return batch

    def _classes(self, targets: Tensor, rows: Tensor | None) -> Tensor:
        """Return class indices, int64; a column is flattened."""
        found = targets.long()
        wrong = (found < 0) & (found != IGNORED)
        if targets.is_floating_point():
            wrong |= found != targets  # catches NaN, too
        allowed = "integers from 0 on"
        if self.num_outputs is not None:
            wrong |= found >= self.num_outputs
            allowed = f"integers from 0 to {self.num_outputs - 1}"
        if wrong.any():
            place = int(wrong.nonzero()[0, 0])
            raise ValueError(
                f"the targets of a classification have to be {allowed} (or {IGNORED} for no label), and {self.name} has"
                f" {targets[wrong][0].item()} in sample {place if rows is None else int(rows[place])}"
            )
        return found.flatten() if found.numel() == len(found) else found


def _numbers(targets: Tensor) -> Tensor:
    """Return numbers [n, m]; integers as float64, to be rounded to the run's type if needed."""
    return (targets if targets.is_floating_point() else targets.double()).reshape(len(targets), -1)


class _Tensors:
    """The rows of tensors in memory, as items that may be transformed."""

    def __init__(self, data: Nest) -> None:
        self.data = data

    def __len__(self) -> int:
        return length(self.data)

    def __getitem__(self, row: int) -> Nest:
        return map_nest(lambda t: t[row], self.data)

    def gather(self, rows: Tensor) -> Nest:
        return take(self.data, rows)


def read(
    name: str,
    given: Any,
    *,
    lazy: bool | Literal["auto"] = False,
    collate: Callable[[list[Any]], Nest] | None = None,
    transform: Transform | None = None,
    cache: str | os.PathLike[str] | None = None,
    window: int | None = None,
) -> Data:
    """Read data, or find out how to read them when they are needed.

    Args:
        name: What the data are, for error messages.
        given: The data.
        lazy: See `supervised`.
        collate: See `supervised`.
        transform: See `supervised`.
        cache: See `supervised`.
        window: See `supervised`.

    Returns:
        A nest of tensors, or `Items`.

    Raises:
        ValueError: The data have no such form.
    """
    if isinstance(given, Stored):
        return given
    if isinstance(given, DataLoader):
        raise ValueError(
            f"{name} is a DataLoader; give the data set that it reads, `loader.dataset`, since the agents"
            " draw their own batches (batch_size, sampling)"
        )
    if isinstance(given, TensorDataset):
        given = given.tensors
    if is_stream(given):
        if window is None and cache is None:
            raise ValueError(
                f"{name} is a {type(given).__name__}, whose items have no index; if it ends, give window= (how many"
                " samples are shuffled together), or a cache= that holds all, or supervised(list(data))"
            )
        with restored_generators():
            given = Stream(given, window or 1, name)
    elif window is not None:
        raise ValueError(f"window is for data without an index, and {name} is a {type(given).__name__}")
    if isinstance(given, Dataset) or _is_list_of_items(given) or _is_indexed(given):
        return _read_items(name, given, lazy, collate, transform, cache)
    if collate is not None or cache is not None:
        what = "cache keeps" if collate is None else "collate makes batches of"
        raise ValueError(f"{what} items, and {name} is a {type(given).__name__} of tensors or arrays")
    data = _nest(name, given)
    lengths = {path: len(t) for path, t in _named(data).items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name} has {' and '.join(f'{count} {path}' for path, count in lengths.items())}")
    if not lengths or 0 in lengths.values():
        raise ValueError(f"{name} is empty")
    return data if transform is None else Items(source=_Tensors(data), name=name, transform=transform)


def _read_items(
    name: str,
    source: Any,
    lazy: bool | Literal["auto"],
    collate: Callable[[list[Any]], Nest] | None,
    transform: Transform | None,
    cache: str | os.PathLike[str] | None,
) -> Data:
    if not hasattr(source, "__len__"):
        raise ValueError(f"{name} is a {type(source).__name__} without a length")
    if len(source) == 0:
        raise ValueError(f"{name} is empty")
    items = Items(source=source, name=name, collate=collate, transform=transform)
    if cache is not None:
        items, lazy = replace(items, source=cached(items, Path(cache))), lazy is not False
    if isinstance(items.source, Stream):
        lazy = True
    if lazy == "auto":
        one = sum(t.nbytes for t in leaves(items.fetch(torch.tensor([0]))))
        lazy = one * len(source) > memory() // _SHARE_OF_MEMORY
    return items if lazy or transform is not None else items.fetch(torch.arange(len(source)))


def is_data_set(given: Any) -> bool:
    """Return whether something holds inputs and targets, and is not one of the two.

    Args:
        given: Anything.

    Returns:
        Whether it is a Dataset, a tuple, a list of pairs (input, target), or a list of two arrays.
    """
    if isinstance(given, list):
        return _is_list_of_pairs(given) or (len(given) == 2 and all(getattr(part, "ndim", 0) > 0 for part in given))
    return isinstance(given, Dataset | DataLoader | Stored | tuple)


def is_list_of_samples(given: Any) -> bool:
    """Return whether something is a list of samples (input, target) rather than of data sets.

    Args:
        given: Anything.

    Returns:
        Whether it is a list of pairs whose targets are single numbers.
    """
    return bool(given) and _is_list_of_pairs(given) and all(_is_number(target) for _, target in given)


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float | np.generic) or (isinstance(given, Tensor | np.ndarray) and given.ndim == 0)


def _is_list_of_pairs(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(item, tuple) and len(item) == 2 for item in data)


def _is_list_of_items(data: Any) -> bool:
    return isinstance(data, list) and all(fields_of(item) and not isinstance(item, list) for item in data)


def _is_indexed(data: Any) -> bool:
    """Return whether something is indexed like a data set, and is none of the usual containers."""
    usual = isinstance(data, Tensor | np.ndarray | list | tuple | Mapping | str | bytes) or hasattr(data, "__array__")
    return hasattr(data, "__getitem__") and not usual and not isinstance(data, type)


def _nest(name: str, given: Any) -> Nest:
    """Convert the arrays of a nest to tensors."""
    if isinstance(given, Tensor | np.ndarray):
        return _tensor(name, given)
    if not (isinstance(given, tuple | list | Mapping) or (is_dataclass(given) and not isinstance(given, type))):
        raise ValueError(
            f"{name} is a {type(given).__name__}; allowed are a Dataset, and a tuple such as (inputs, targets), a"
            " mapping or a dataclass of tensors or numpy arrays"
        )
    parts = fields_of(given)
    plain = isinstance(given, tuple | list) and not hasattr(given, "_fields")
    if plain and any(isinstance(part, tuple) for part in parts.values()):
        raise ValueError(
            f"{name} holds {len(parts)} entries ({', '.join(type(part).__name__ for part in parts.values())}), where"
            " inputs and targets are wanted; with test data it is ((inputs, targets), (test inputs, test targets))"
        )
    found = {
        path: _nest(name, part) if isinstance(part, Mapping) else _tensor(f"the {_called(path, parts)} of {name}", part)
        for path, part in parts.items()
    }
    if plain:
        return tuple(found.values())
    if isinstance(given, Mapping):
        return found
    return replace(given, **found) if is_dataclass(given) else type(given)(*found.values())


def _called(path: str, parts: Mapping[str, Any]) -> str:
    """Call the two parts of a pair inputs and targets."""
    return {"0": "inputs", "1": "targets"}[path] if [*parts] == ["0", "1"] else f"part {path!r}"


def _named(nest: Nest, path: str = "") -> dict[str, Tensor]:
    """Name the tensors of a nest."""
    if isinstance(nest, Tensor):
        return {path or "samples": nest}
    parts = fields_of(nest)
    found: dict[str, Tensor] = {}
    for name, part in parts.items():
        found |= _named(part, f"{path}.{name}" if path else _called(name, parts))
    return found


def _tensor(what: str, data: Any) -> Tensor:
    """Return tensors as they are, and convert arrays, tables and lists."""
    if isinstance(data, Tensor):
        found = data.detach()
    else:
        try:
            tensors = isinstance(data, list | tuple) and data and all(isinstance(item, Tensor) for item in data)
            array = np.asarray(torch.stack(list(data)) if tensors else data)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{what} make no array: {str(error).splitlines()[0]}") from error
        kind, size = array.dtype.kind, array.dtype.itemsize
        if kind not in "biufc" or size > (16 if kind == "c" else 8) or np.ma.is_masked(data):
            words = array.size and isinstance(array.flat[0], str)
            hint = "; numpy.unique(…, return_inverse=True) turns words into class indices" if words else ""
            raise ValueError(f"{what} are a {type(data).__name__} of {array.dtype}, where numbers are needed{hint}")
        # Native byte order, contiguous and writable, as torch requires; copied only if needed.
        found = torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    if found.ndim == 0:
        raise ValueError(f"{what} are a single number, {data!r}")
    return found


def check_alike(train: Nest, test: Nest) -> None:
    """Check that test data have the parts, shapes and types of the training data.

    Args:
        train: A batch of training data.
        test: A batch of test data.

    Raises:
        ValueError: They do not.
    """
    ours, theirs = _named(train), _named(test)
    if ours.keys() != theirs.keys():
        raise ValueError(f"test holds {', '.join(theirs)}, and train {', '.join(ours)}")
    for what, (mine, other) in {name: (ours[name], theirs[name]) for name in ours}.items():
        if mine.shape[1:] != other.shape[1:]:
            raise ValueError(
                f"the {what} of test have the shape {tuple(other.shape[1:])}, and those of train"
                f" {tuple(mine.shape[1:])}"
            )
        kinds = [(t.is_floating_point(), t.is_complex()) for t in (mine, other)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"the {what} of test are {other.dtype}, and those of train {mine.dtype}")
