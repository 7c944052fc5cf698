"""Batches of later steps, read by other processes while a step computes."""

import warnings
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from basinet.sim.data.nests import Nest
from basinet.sim.data.rows import Stored, at_once, length, take
from basinet.sim.experiment.mistakes import ExperimentError, in_words

__all__ = ["Ahead"]

Request = list[tuple[np.ndarray, np.ndarray]]
"""The indices of the samples of some steps, and the keys of their random changes."""

_MOST_TOGETHER = 16
"""Largest number of steps whose batches are sent together, since sending costs as much as many small samples."""


class Ahead:
    """Reads the batches of later steps in other processes.

    Args:
        data: The samples.
        wanted: Returns the indices [B] that a step reads, and the keys of their random changes [B].
        readers: Number of processes.
        prefetch: Steps that each process reads ahead, which bounds the memory; up to 16 if their batches are small.
    """

    def __init__(
        self, data: Stored, wanted: Callable[[int], tuple[Tensor, Tensor]], readers: int, prefetch: int
    ) -> None:
        self.data, self.wanted = data, wanted
        self.readers, self.prefetch = readers, prefetch
        self.together = 1
        self.first = 0
        self.held: list[Nest | _Failure] = []
        self.batches: Any = None

    def batch(self, step: int) -> Nest:
        """Return the batch of a step: at once, if the step follows the last one.

        Args:
            step: The step.

        Returns:
            Tensors [B, ...], on the device of the data.

        Raises:
            ExperimentError: A sample cannot be read, or a process has ended.
        """
        reach = self.together * (1 + self.readers * self.prefetch)
        if self.batches is None or not self.first <= step < self.first + reach:
            self._begin(step)
        try:
            while step >= self.first + len(self.held):
                self.first += len(self.held)
                self.held = _batches(next(self.batches))
        except RuntimeError as error:
            raise ExperimentError(
                f"runtime.readers: a process that reads samples has ended ({in_words(error)}); give fewer readers, or a"
                " smaller runtime.prefetch"
            ) from error
        found = self.held[step - self.first]
        if isinstance(found, _Failure):
            raise ExperimentError(found.sentence)
        return self.data.place(found)

    def _begin(self, step: int) -> None:
        self.close()
        size = len(self.wanted(step)[0])
        self.together = max(1, min(_MOST_TOGETHER, at_once(self.data) // size))
        loader: DataLoader[Any] = DataLoader(
            _Fetched(self.data),
            batch_size=None,
            sampler=_Requests(self.wanted, step, self.together),
            num_workers=self.readers,
            prefetch_factor=-(-self.prefetch // self.together),
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # torch's global one is left alone
            multiprocessing_context="fork",  # the others would run the user's script again
        )
        with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # forking a process with threads
            self.batches = iter(loader)
        self.first, self.held = step, []

    def close(self) -> None:
        """End the processes."""
        if self.batches is not None:
            self.batches._shutdown_workers()
            self.batches = None


class _Requests(Sampler[Request]):
    """What the steps read, from one on, some steps at a time."""

    def __init__(self, wanted: Callable[[int], tuple[Tensor, Tensor]], first: int, together: int) -> None:
        self.wanted, self.first, self.together = wanted, first, together

    def __iter__(self) -> Iterator[Request]:
        for first in count(self.first, self.together):
            wanted = map(self.wanted, range(first, first + self.together))
            yield [(rows.cpu().numpy(), keys.cpu().numpy()) for rows, keys in wanted]


class _Failure:
    """A sentence that says what went wrong in another process."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence


class _Fetched(Dataset[Any]):
    """What requests ask for, as a data set: all samples in a nest and their number in each batch, or the batches."""

    def __init__(self, data: Stored) -> None:
        self.data = data

    def __getitem__(self, request: Request) -> tuple[Nest, int] | list[Nest | _Failure]:
        try:
            return self._fetch(*map(np.concatenate, zip(*request, strict=True))), len(request[0][0])
        except ExperimentError:  # steps before the one that fails can be taken
            return [self._try(*one) for one in request]

    def _fetch(self, rows: np.ndarray, keys: np.ndarray) -> Nest:
        return self.data.fetch(torch.from_numpy(rows), torch.from_numpy(keys))

    def _try(self, rows: np.ndarray, keys: np.ndarray) -> Nest | _Failure:
        try:
            return self._fetch(rows, keys)
        except ExperimentError as error:
            return _Failure(str(error))


def _as_it_is(found: Any) -> Any:
    return found


def _batches(found: tuple[Nest, int] | list[Nest | _Failure]) -> list[Nest | _Failure]:
    """Cut what was sent together into the batches of the steps."""
    if isinstance(found, list):
        return found
    samples, size = found
    return [take(samples, slice(first, first + size)) for first in range(0, length(samples), size)]
