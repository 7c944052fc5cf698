"""Items of a data set that is indexed, read when they are needed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from basinet.sim.data.generators import restored_generators, seed_generators
from basinet.sim.data.nests import Nest, fields_of, leaves, map_nest, move_nest
from basinet.sim.data.pad import Pad
from basinet.sim.data.rows import Stored
from basinet.sim.experiment.mistakes import ExperimentError, first_line, in_words, place_of

__all__ = ["Items", "Transform", "batch_of", "check_classes"]

Transform = Callable[[Any, np.random.Generator], Any]
"""Changes an item at random, by a generator of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Items(Stored):
    """Items of a data set that is indexed, read when they are needed.

    The global generators of torch, NumPy and Python are seeded before each item: by the key of the draw (agent, step
    and position), or by its index where samples are measured. What an item draws is therefore the same wherever and
    whenever it is read.

    Attributes:
        source: Has a length and is indexed. If it has a method `gather(rows)`, which returns a batch, unchanged items
            are read by it. If its attribute `is_uniform` is false, items differ in shape and are measured one by one.
        name: What the data are, for error messages: train or test.
        collate: Makes a batch of a list of items; None for torch's `default_collate`.
        transform: Changes the items that agents draw, but not those that are measured; takes an item and a NumPy
            generator.
        convert: Checks and converts a batch; takes it and the indices of its items, and raises a ValueError.
        classes: Class of each sample, int64 [n], if known.
        targets: Takes the targets out of a batch; those of unchanged items have to be the `classes`.
        device: Where batches are placed.
        dtype: Their floating type; None for that of the items.
    """

    source: Any
    name: str = "train"
    collate: Callable[[list[Any]], Nest] | None = None
    transform: Transform | None = None
    convert: Callable[[Nest, Tensor], Nest] | None = None
    classes: Tensor | None = None
    targets: Callable[[Nest], Any] | None = None
    device: torch.device | str = "cpu"
    dtype: torch.dtype | None = None

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.source)

    @property
    def labels(self) -> Tensor | None:
        """Class of each sample, int64 [n] on the CPU, if it is known."""
        return self.classes

    @property
    def relabels(self) -> bool:
        """Whether a transform may give a sample another label."""
        return self.transform is not None

    @property
    def is_uniform(self) -> bool:
        """Whether all items have the same shapes, or a collation makes them alike."""
        return self.collate is not None or getattr(self.source, "is_uniform", True)

    @property
    def window(self) -> int | None:
        """Number of items from which agents draw at a time, if they cannot be indexed at will."""
        return getattr(self.source, "window", None)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same items, to be read to a device and in a floating type; see `Stored`."""
        return replace(self, device=device, dtype=dtype)

    def place(self, batch: Nest) -> Nest:
        """Move a batch to the device; see `Stored`."""
        return move_nest(batch, self.device, self.dtype)

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> Nest:
        """Read items and collate them; see `Stored`.

        Args:
            rows: Their indices, int64 [B].
            keys: Keys of their random draws, int64 [B].

        Returns:
            A batch on the CPU.

        Raises:
            ExperimentError: An item or the collation raises anything, or does not make a batch of finite tensors, or an
                item has another class than is known.
        """
        changed = keys is not None and self.transform is not None
        if not changed and self.collate is None and hasattr(self.source, "gather"):
            batch = self.source.gather(rows)
        else:
            seeds = rows if keys is None else keys
            with restored_generators():
                items = [self._item(*pair, changed=changed) for pair in zip(rows.tolist(), seeds.tolist(), strict=True)]
                batch = self._collated(items, rows, changed=changed)
        try:
            batch = batch if self.convert is None else self.convert(batch, rows)
            if self.classes is not None and self.targets is not None and not changed:
                check_classes(self.name, self.targets(batch), self.classes[rows], rows)
            self._check_numbers(batch, rows)
        except ExperimentError:
            raise
        except ValueError as error:
            raise ExperimentError(f"task: {error}") from error
        return batch

    def item(self, row: int) -> Any:
        """Read an item as it is.

        Args:
            row: Its index.

        Returns:
            The item, without a transform.
        """
        with restored_generators():
            return self._item(row, row, changed=False)

    def _item(self, row: int, seed: int, *, changed: bool) -> Any:
        """Read an item, with what it draws determined by a seed."""
        seed, what = seed_generators(seed), ""
        try:
            item = self.source[row]
            if changed and self.transform is not None:
                what = "the transform of "
                seed_generators(seed)  # a stream seeds them otherwise
                item = self.transform(item, np.random.default_rng(seed))
        except ExperimentError:
            raise
        except Exception as error:  # the user's data set may raise anything
            raise ExperimentError(
                f"task: {what}item {row} of {self.name}{self._file(row)} raises {in_words(error)}{place_of(error)}"
            ) from error
        if item is None and (what or self.collate is None):
            verb = "returns" if what else "is"
            raise ExperimentError(f"task: {what}item {row} of {self.name}{self._file(row)} {verb} None")
        return item

    def _collated(self, items: list[Any], rows: Tensor, *, changed: bool) -> Nest:
        try:
            batch = (self.collate or default_collate)(items)
        except Exception as error:  # the user's function may raise anything
            seen = ", as the transform returns them," if changed else ""
            reason = self._misfit(items, rows.tolist(), seen)
            if reason is None and self.collate is not None:
                reason = f"the collate of {self.name} raises {in_words(error)}{place_of(error)}"
            elif reason is None:
                reason = (
                    f"the items of {self.name}{seen} make no batch ({in_words(error)}); allowed are tensors, arrays,"
                    " numbers, and tuples, lists and mappings of them, or anything that a collate takes"
                )
            raise ExperimentError(f"task: {reason}") from error
        return batch_of(self.name, batch, len(rows))

    def _misfit(self, items: list[Any], rows: list[int], seen: str) -> str | None:
        """Say which items cannot be in a batch together."""
        if isinstance(self.collate, Pad):
            padded = []
            for row, item in zip(rows, items, strict=True):
                try:
                    padded.append(map_nest(lambda t: t[0], self.collate([item])))
                except Exception as error:  # items hold anything
                    return f"item {row} of {self.name}{self._file(row)}{seen} cannot be padded: {first_line(error)}"
            items = padded
        first, *others = (dict(_parts(item, "")) for item in items)
        for row, other in zip(rows[1:], others, strict=True):
            differ = (
                f"items {rows[0]}{self._file(rows[0])} and {row}{self._file(row)} of {self.name}{seen} cannot be in a"
                " batch together: one has the"
            )
            if other.keys() != first.keys():
                return f"{differ} parts {', '.join(first)}, and the other {', '.join(other)}"
            for path, part in first.items():
                kinds = [_kind(part), _kind(other[path])]
                if kinds[0] != kinds[1] and (self.collate is None or isinstance(self.collate, Pad)):
                    of = f" in part {path!r}" if path else ""
                    ragged = self.collate is None and not any(kind.startswith("type") for kind in kinds)
                    hint = "; give a collate, such as basinet.sim.tasks.Pad" if ragged else ""
                    return f"{differ} {kinds[0]} and the other the {kinds[1]}{of}{hint}"
        return None

    def _check_numbers(self, batch: Nest, rows: Tensor) -> None:
        """Raise if there is a NaN."""
        for t in leaves(batch):
            if t.is_floating_point() and t.sum().isnan():  # the sum of all costs less than a look at each
                wrong = t.isnan().reshape(len(t), -1).any(1).nonzero()
                if len(wrong):
                    row = int(rows[wrong[0]])
                    raise ExperimentError(
                        f"task: sample {row} of {self.name}{self._file(row)} holds numbers that are not a number"
                    )

    def _file(self, row: int) -> str:
        """Return the file of an item in brackets, if the data set lists its files."""
        files = getattr(self.source, "files", None) or getattr(self.source, "samples", None)
        if not isinstance(files, list | tuple) or len(files) != len(self):
            return ""
        file = files[row][0] if isinstance(files[row], tuple) else files[row]
        return f" ({file})"

    def check(self) -> None:
        """Check that an item is the same when it is read again with the same draws.

        Raises:
            ExperimentError: It differs, since it draws from a generator of its own, or it cannot be read.
        """
        rows = torch.tensor([0, 1 % len(self)])[: 2 if self.is_uniform else 1]
        for keys in (None, rows + 1):
            first, again = ([_bytes(t) for t in leaves(self.fetch(rows, keys))] for _ in range(2))
            if first != again:
                raise ExperimentError(
                    f"task: an item of {self.name} differs when it is read again, so that a run could not be resumed"
                    " exactly; allowed are items that draw from the global generators of torch, numpy and random, which"
                    " are seeded, and a transform that draws from the generator that it is given"
                )


def check_classes(name: str, found: Tensor, known: Tensor, rows: Tensor) -> None:
    """Check that samples have the classes that are known of them.

    Args:
        name: What the data are, for error messages.
        found: Targets of the samples, [B, ...].
        known: What they are known to be.
        rows: Indices of the samples, [B].

    Raises:
        ValueError: They differ.
    """
    about = "as the known labels say (labels=, or the attribute targets of the data set)"
    if found.shape != known.shape:
        raise ValueError(
            f"a sample of {name} has targets of shape {tuple(found.shape[1:])}, and not {tuple(known.shape[1:])},"
            f" {about}; allowed are labels like the targets, and columns= for what else is known of the samples"
        )
    wrong = found != known
    if wrong.any():
        row = int(rows[wrong.nonzero()[0, 0]])
        raise ValueError(
            f"sample {row} of {name} has the label {found[wrong][0].item()}, and not {known[wrong][0].item()}, {about};"
            " give the labels that the items have as labels="
        )


def batch_of(name: str, batch: Nest, count: int) -> Nest:
    """Check what a collation has made.

    Args:
        name: What the data are, for error messages.
        batch: The result.
        count: Number of items.

    Returns:
        The batch, as a tuple if it is a list.

    Raises:
        ExperimentError: It does not consist of tensors with an entry for each item.
    """
    for path, part in _parts(batch, ""):
        of = f" in part {path!r}" if path else ""
        if isinstance(part, Tensor) and part.shape[:1] != (count,):
            raise ExperimentError(
                f"task: the collation of {count} items of {name} returns a tensor of shape {tuple(part.shape)}{of},"
                f" where the first dimension has to be {count}, that of the items"
            )
        if not isinstance(part, Tensor):
            words = isinstance(part, list | tuple) and bool(part) and isinstance(part[0], str)
            kind = "list of words" if words else f"value of type {type(part).__name__}"
            raise ExperimentError(
                f"task: the items of {name} make a {kind}{of}, where a tensor is needed; leave it out, or turn it into"
                " numbers (collate"
                f"{', or numpy.unique(…, return_inverse=True) for classes' if words else ''})"
            )
    return tuple(batch) if type(batch) is list else batch


def _parts(nest: Nest, path: str) -> Iterator[tuple[str, Any]]:
    """List what a nest holds, with its place; a list of numbers or words is a whole."""
    found = {} if isinstance(nest, Tensor) else fields_of(nest)
    inner = [*found.values()]
    is_words = isinstance(nest, list | tuple) and all(isinstance(p, str) for p in inner)
    if not inner or is_words or (isinstance(nest, list) and not any(map(_is_nest, inner))):
        yield path, nest
        return
    for name, part in found.items():
        yield from _parts(part, f"{path}.{name}" if path else name)


def _is_nest(part: Any) -> bool:
    return isinstance(part, Tensor) or bool(fields_of(part))


def _kind(part: Any) -> str:
    """Say what may keep a part of an item from being stacked with that of another."""
    if isinstance(part, int | float | complex) or hasattr(part, "shape"):
        return f"shape {tuple(getattr(part, 'shape', ()))}"
    return f"length {len(part)}" if isinstance(part, list) else f"type {type(part).__name__}"


def _bytes(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).clone(memory_format=torch.contiguous_format).view(torch.uint8).numpy().tobytes()
