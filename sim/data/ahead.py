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
from basinet.sim.data.rows import Stored
from basinet.sim.experiment.mistakes import ExperimentError, in_words

__all__ = ["Ahead"]

Request = tuple[np.ndarray, np.ndarray]
"""Indices of samples, and keys of their random changes."""


class Ahead:
    """Reads the batches of later steps in other processes.

    Args:
        data: The samples.
        wanted: Returns the indices [B] that a step reads, and the keys of their random changes [B].
        readers: Number of processes.
        prefetch: Steps that each process reads ahead, which bounds the memory.
    """

    def __init__(
        self, data: Stored, wanted: Callable[[int], tuple[Tensor, Tensor]], readers: int, prefetch: int
    ) -> None:
        self.data, self.wanted = data, wanted
        self.readers, self.prefetch = readers, prefetch
        self.next = -1
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
        if self.batches is None or not self.next <= step < self.next + self.readers * self.prefetch:
            self._begin(step)
        try:
            while self.next <= step:
                found = next(self.batches)
                self.next += 1
        except RuntimeError as error:
            raise ExperimentError(
                f"runtime.readers: a process that reads samples has ended ({in_words(error)}); give fewer readers, or a"
                " smaller runtime.prefetch"
            ) from error
        if isinstance(found, _Failure):
            raise ExperimentError(found.sentence)
        return self.data.place(found)

    def _begin(self, step: int) -> None:
        self.close()
        loader: DataLoader[Nest] = DataLoader(
            _Fetched(self.data),
            batch_size=None,
            sampler=_Requests(self.wanted, step),
            num_workers=self.readers,
            prefetch_factor=self.prefetch,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # torch's global one is left alone
            multiprocessing_context="fork",  # the others would run the user's script again
        )
        with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # forking a process with threads
            self.batches = iter(loader)
        self.next = step

    def close(self) -> None:
        """End the processes."""
        if self.batches is not None:
            self.batches._shutdown_workers()
            self.batches = None


class _Requests(Sampler[Request]):
    """What the steps read, from one on."""

    def __init__(self, wanted: Callable[[int], tuple[Tensor, Tensor]], first: int) -> None:
        self.wanted, self.first = wanted, first

    def __iter__(self) -> Iterator[Request]:
        for step in count(self.first):
            rows, keys = self.wanted(step)
            yield rows.cpu().numpy(), keys.cpu().numpy()


class _Failure:
    """A sentence that says what went wrong in another process."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence


class _Fetched(Dataset[Nest]):
    """The batches of requests, as a data set."""

    def __init__(self, data: Stored) -> None:
        self.data = data

    def __getitem__(self, request: Request) -> Nest:
        rows, keys = map(torch.from_numpy, request)
        try:
            return self.data.fetch(rows, keys)
        except ExperimentError as error:
            return _Failure(str(error))


def _as_it_is(batch: Nest) -> Nest:
    return batch
