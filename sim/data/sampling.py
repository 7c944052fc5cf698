"""Batches: the samples each agent sees at each step, drawn by key for all agents at once, on the device."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.data.ahead import Ahead
from basinet.sim.data.nests import map_nest
from basinet.sim.data.rows import Data, Stored, take
from basinet.sim.tasks.task import Batch, Task

__all__ = [
    "EpochSampler",
    "IndependentSampler",
    "Sampler",
    "Sampling",
    "StreamSampler",
    "WindowSampler",
    "make_sampler",
]

_AHEAD = 2**16
"""Approximate number of draws made in one call, over several steps: a call costs more than many draws."""

_LATE = 2**62
"""After all epochs."""

Sampling = Literal["independent", "epochs"]


class Sampler(Protocol):
    """Draws the agents' batches."""

    def batch(self, step: int, size: int | None = None) -> Batch:
        """Draw the batches of a step.

        A batch of another size does not change those of other steps. Drawn from data, it is a longer or shorter part
        of the same draw.

        Args:
            step: The step.
            size: Samples per agent; by default, the batch size of the experiment.

        Returns:
            Tensors [N, B, ...].
        """

    def some(self, rows: np.ndarray, steps: np.ndarray) -> Batch:
        """Draw batches of some agents, each of a step of its own.

        Args:
            rows: Which agents, int64 [n].
            steps: The steps, int64 [n].

        Returns:
            Tensors [n, B, ...], those of `batch` at these steps.
        """

    def sweep(self) -> Iterator[tuple[Batch, Tensor]]:
        """Iterate once over all of the agents' data.

        Yields:
            Tensors [N, B, ...], and the share of each agent's data that they are, [N]: of its samples or, where some
            labels do not count, of those that count.
        """

    def close(self) -> None:
        """End the processes that read samples ahead, if there are any."""


class _Holdings:
    """Which agent holds which samples: the agents' index sets in one tensor, equal sets stored once."""

    def __init__(self, holdings: Sequence[np.ndarray], device: torch.device) -> None:
        places: dict[int, int] = {}
        parts: list[np.ndarray] = []
        size = 0
        for indices in holdings:
            if id(indices) not in places:
                places[id(indices)] = size
                parts.append(indices)
                size += len(indices)
        self.indices = torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)
        self.offsets = torch.tensor([places[id(h)] for h in holdings], device=device)
        self.sizes_on_host = np.array([len(h) for h in holdings])
        self.sizes = torch.from_numpy(self.sizes_on_host).to(device)

    def find(self, slots: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return the samples in agents' slots [..., n, B]."""
        return self.indices[self.offsets[rows, None] + slots]


class _DataSampler(ABC):
    """Draws from the agents' own data.

    Args:
        data: The training data.
        holdings: Indices of the samples that each agent holds.
        keys: One key per agent, int64 [N].
        batch_size: B.
        counts: Returns the number of labels that count in each sample, int64 [n]; None if all do.
        readers: Number of processes that read samples ahead, if these are read when needed; 0 for none.
        prefetch: Steps that each of them reads ahead.
    """

    def __init__(
        self,
        data: Data,
        holdings: Sequence[np.ndarray],
        keys: Tensor,
        batch_size: int,
        counts: Callable[[], Tensor | None] = lambda: None,
        *,
        readers: int = 0,
        prefetch: int = 2,
    ) -> None:
        self.data = data
        self.counts = counts
        self.holdings = _Holdings(holdings, keys.device)
        self.keys = keys
        self.batch_size = batch_size
        self.changes = draws.fold(keys, draws.key(0, "changes of samples")) if isinstance(data, Stored) else None
        self.ahead = Ahead(data, self._wanted, readers, prefetch) if readers and isinstance(data, Stored) else None
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Set up what is kept between batches."""

    @abstractmethod
    def rows(self, step: int, size: int) -> Tensor:
        """Draw the samples of a step.

        Args:
            step: The step.
            size: Samples per agent.

        Returns:
            Their indices, int64 [N, B].
        """

    def batch(self, step: int, size: int | None = None) -> Batch:
        """Draw the batches of a step; see `Sampler`."""
        if self.ahead is not None and size in (None, self.batch_size):
            shape = (len(self.keys), self.batch_size)
            batch = map_nest(lambda t: t.view(*shape, *t.shape[1:]), self.ahead.batch(step))
        else:
            rows = self.rows(step, size or self.batch_size)
            batch = take(self.data, rows, self._changes(step, rows))
        return self.data.at_step(batch, step) if isinstance(self.data, Stored) else batch

    def some(self, rows: np.ndarray, steps: np.ndarray) -> Batch:
        """Draw batches of some agents; see `Sampler`."""
        return take(self.data, self.own_rows(rows, steps))

    @abstractmethod
    @abstractmethod
    def own_rows(self, rows: np.ndarray, steps: np.ndarray) -> Tensor:
        """Draw the samples of some agents, each at a step of its own.

        Args:
            rows: Which agents, int64 [n].
            steps: The steps, int64 [n].

        Returns:
            Indices of the samples, int64 [n, B].
        """

    def _changes(self, step: int, rows: Tensor) -> Tensor | None:
        """Return the keys of the random changes of samples, int64 [N, B]."""
        if self.changes is None:
            return None
        return draws.fold(draws.fold(self.changes, step)[:, None], torch.arange(rows.shape[1], device=rows.device))

    def _wanted(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self.rows(step, self.batch_size)
        keys = self._changes(step, rows)
        assert keys is not None
        return rows.flatten(), keys.flatten()

    def close(self) -> None:
        """End the processes that read samples ahead, if there are any."""
        if self.ahead is not None:
            self.ahead.close()

    def sweep(self) -> Iterator[tuple[Batch, Tensor]]:
        """Iterate over all of the agents' data: full batches first, then the rest sample by sample; see `Sampler`."""
        sizes, length = self.holdings.sizes[:, None], self.batch_size
        whole = sizes // length
        on_host = self.holdings.sizes_on_host
        first = torch.arange(length, device=sizes.device)
        counts = self.counts()
        counts = None if counts is None else counts.to(sizes.device)
        total = sizes[:, 0] if counts is None else self._count_all(counts)
        for j in range(int((on_host // length).max())):
            yield self._part(j * length + first, (j < whole).expand(-1, length), counts, total)
        for j in range(int((on_host % length).max())):
            slots = whole * length + j
            yield self._part(slots, slots < sizes, counts, total)

    def _part(self, slots: Tensor, held: Tensor, counts: Tensor | None, total: Tensor) -> tuple[Batch, Tensor]:
        """Take the samples in the agents' slots [N, B], and the share of the agent's data that they are."""
        samples = self.holdings.find(slots.clamp(max=self.holdings.sizes[:, None] - 1))
        mine = held if counts is None else held * counts[samples]
        return take(self.data, samples), mine.sum(1).double() / total

    def _count_all(self, counts: Tensor) -> Tensor:
        """Count the labels that count in each agent's data, [N]."""
        places = zip(self.holdings.offsets.tolist(), self.holdings.sizes_on_host.tolist(), strict=True)
        return torch.stack([counts[self.holdings.indices[first : first + size]].sum() for first, size in places])


class IndependentSampler(_DataSampler):
    """Draws each sample of a batch independently, with replacement, from the agent's own data."""

    def _begin(self) -> None:
        self.at_once = max(1, min(64, _AHEAD // (len(self.keys) * self.batch_size)))
        self.first = -self.at_once

    def rows(self, step: int, size: int) -> Tensor:
        """Draw the samples of a step; see `_DataSampler`."""
        if size != self.batch_size:
            return self._draw(step, 1, size)[0]
        if not 0 <= step - self.first < self.at_once:
            self.samples = self._draw(step, self.at_once, size)
            self.first = step
        return self.samples[step - self.first]

    def own_rows(self, rows: np.ndarray, steps: np.ndarray) -> Tensor:
        """Draw the samples of some agents; see `_DataSampler`."""
        index, numbers = (torch.from_numpy(each).to(self.keys.device) for each in (rows, steps))
        keys, sizes = draws.fold(self.keys[index], numbers), self.holdings.sizes[index]
        return self.holdings.find(draws.integers(keys, sizes, (self.batch_size,)), index)

    def _draw(self, first: int, count: int, size: int) -> Tensor:
        """Draw the samples of several steps, [count, N, size]."""
        steps = torch.arange(first, first + count, device=self.keys.device)
        keys = draws.fold(self.keys, steps[:, None])
        return self.holdings.find(draws.integers(keys, self.holdings.sizes.expand(count, -1), (size,)))


class EpochSampler(_DataSampler):
    """Goes through the agent's own data in a new random order each epoch; batches continue across epochs.

    A larger batch looks ahead in the order; the samples it adds come again in their turn.
    """

    def _begin(self) -> None:
        self.length = int(self.holdings.sizes_on_host.max())
        self._reach(self.batch_size)

    def _reach(self, size: int) -> None:
        """Make room for the orders of all epochs that a batch of this size can touch: it may end in a later epoch."""
        sizes = self.holdings.sizes_on_host
        self.span = 1 + -(-(size - 1) // int(sizes.min()))
        self.first = np.full(len(sizes), -1)
        self.orders = torch.zeros(len(sizes), self.span * self.length, dtype=torch.int64, device=self.keys.device)

    def rows(self, step: int, size: int) -> Tensor:
        """Draw the samples of a step; see `_DataSampler`."""
        if size - 1 > (self.span - 1) * int(self.holdings.sizes_on_host.min()):
            self._reach(size)
        position = step * self.batch_size
        self._order(position // self.holdings.sizes_on_host)
        return self._in_order(slice(None), position, size)

    def own_rows(self, rows: np.ndarray, steps: np.ndarray) -> Tensor:
        """Draw the samples of some agents; see `_DataSampler`."""
        positions, device = steps * self.batch_size, self.keys.device
        epochs, left = positions // self.holdings.sizes_on_host[rows], np.arange(len(rows))
        found = torch.zeros(len(rows), self.batch_size, dtype=torch.int64, device=device)
        while len(left):  # those of each agent's earliest epoch
            first = np.full_like(self.first, _LATE)
            np.minimum.at(first, rows[left], epochs[left])
            now = left[epochs[left] == first[rows[left]]]
            self._order(np.where(first < _LATE, first, self.first))
            index, begin = (torch.from_numpy(each[now]).to(device) for each in (rows, positions[:, None]))
            found[torch.from_numpy(now).to(device)] = self._in_order(index, begin, self.batch_size)
            left = np.setdiff1d(left, now)
        return found

    def _in_order(self, rows: Tensor | slice, position: int | Tensor, size: int) -> Tensor:
        """Take samples of some agents, int64 [n, size], from a position, or positions [n, 1], in their orders on."""
        sizes = self.holdings.sizes[rows, None]
        places = position + torch.arange(size, device=sizes.device)
        epoch, slot = places // sizes, places % sizes
        return self.holdings.find(self.orders[rows].gather(1, (epoch - epoch[:, :1]) * self.length + slot), rows)

    def _order(self, first: np.ndarray) -> None:
        """Draw the orders of the epochs that a batch touches, for the agents that enter a new epoch."""
        changed = np.flatnonzero(first != self.first)
        if len(changed) == 0:
            return
        self.first = first
        rows = torch.from_numpy(changed).to(self.keys.device)
        epochs = torch.from_numpy(first[changed]).to(self.keys.device)
        self.orders[rows] = torch.cat(
            [
                draws.permutation(draws.fold(self.keys[rows], epochs + later), self.holdings.sizes[rows], self.length)
                for later in range(self.span)
            ],
            dim=1,
        )


class WindowSampler(_DataSampler):
    """Goes through the agent's own data in their order, one window after another; within each, at random.

    Args:
        *args: See `IndependentSampler`.
        again: Whether samples are drawn independently within a window, or otherwise each once.
        **kwargs: See `IndependentSampler`.
    """

    def __init__(self, *args: Any, again: bool, **kwargs: Any) -> None:
        self.again = again
        super().__init__(*args, **kwargs)

    def _begin(self) -> None:
        assert isinstance(self.data, Stored) and self.data.window is not None
        sizes = self.holdings.sizes_on_host
        self.windows = np.maximum(1, self.data.window * sizes // len(self.data))
        self.own = self.keys.cpu()
        self.orders: dict[tuple[int, int], np.ndarray] = {}

    def rows(self, step: int, size: int) -> Tensor:
        """Draw the samples of a step; see `_DataSampler`."""
        slots = np.stack([self._slots(agent, step, size) for agent in range(len(self.own))])
        return self.holdings.find(torch.from_numpy(slots).to(self.keys.device))

    def own_rows(self, rows: np.ndarray, steps: np.ndarray) -> Tensor:
        """Raise, since such samples are read for all agents at the same step.

        Raises:
            TypeError: Always.
        """
        raise TypeError("samples in windows are read for all agents at the same step")

    def _slots(self, agent: int, step: int, size: int) -> np.ndarray:
        """Draw which of its samples an agent takes."""
        held, window = int(self.holdings.sizes_on_host[agent]), int(self.windows[agent])
        epoch, place = np.divmod(step * self.batch_size + np.arange(size), held)
        number, within = np.divmod(place, window)
        lengths = np.minimum(window, held - number * window)
        if self.again:
            drawn = draws.uniform(draws.fold(self.own[agent], step), (size,)).numpy()
            within = (drawn * lengths).astype(np.int64)
            return np.asarray(number * window + within)
        numbers = (epoch * -(-held // window) + number).tolist()
        places = zip(numbers, lengths.tolist(), within.tolist(), strict=True)
        return np.asarray(number * window + [self._order(agent, n, length)[place] for n, length, place in places])

    def _order(self, agent: int, number: int, length: int) -> np.ndarray:
        """Draw the order in an agent's window, counted over all epochs."""
        if (agent, number) not in self.orders:
            self.orders.pop((agent, number - 2), None)
            keys = draws.fold(self.own[agent : agent + 1], number)
            self.orders[agent, number] = draws.permutation(keys, torch.tensor([length]), length)[0].numpy()
        return self.orders[agent, number]


class StreamSampler:
    """Generates fresh samples at every step, for tasks whose gradient noise has a closed form.

    Args:
        task: A task with `draw`.
        agents: Agent of each row, int64 [N].
        keys: One key per agent, int64 [N].
        batch_size: B.
        dtype: Floating type of the samples.
    """

    def __init__(self, task: Task, agents: Tensor, keys: Tensor, batch_size: int, dtype: torch.dtype) -> None:
        assert task.draw is not None
        self.draw = task.draw
        self.agents = agents
        self.keys = keys
        self.batch_size = batch_size
        self.dtype = dtype

    def batch(self, step: int, size: int | None = None) -> Batch:
        """Draw the batches of a step; see `Sampler`."""
        return self.draw(draws.fold(self.keys, step), self.agents, size or self.batch_size, self.dtype)

    def some(self, rows: np.ndarray, steps: np.ndarray) -> Batch:
        """Draw batches of some agents; see `Sampler`."""
        index, numbers = (torch.from_numpy(each).to(self.keys.device) for each in (rows, steps))
        return self.draw(draws.fold(self.keys[index], numbers), self.agents[index], self.batch_size, self.dtype)

    def sweep(self) -> Iterator[tuple[Batch, Tensor]]:
        """Raise, since there is no end to generated samples.

        Raises:
            TypeError: Always.
        """
        raise TypeError("the task generates its samples, so that there is no gradient over all of them")

    def close(self) -> None:
        """Do nothing, since nothing is read."""


def make_sampler(
    sampling: Sampling,
    task: Task,
    holdings: Sequence[np.ndarray],
    agents: Tensor,
    keys: Tensor,
    batch_size: int,
    dtype: torch.dtype,
    *,
    readers: int = 0,
    prefetch: int = 2,
) -> Sampler:
    """Build the sampler for a task and an experiment.

    Args:
        sampling: "independent" or "epochs".
        task: The task, on the device.
        holdings: Indices of the samples that each row holds; not used if the task generates its samples.
        agents: Agent of each row, int64 [N].
        keys: One key per row, int64 [N].
        batch_size: B.
        dtype: Floating type of generated samples.
        readers: Number of processes that read samples ahead, if these are read when needed; 0 for none.
        prefetch: Steps that each of them reads ahead.

    Returns:
        A sampler.
    """
    if task.draw is not None:
        return StreamSampler(task, agents, keys, batch_size, dtype)
    kind: Callable[..., _DataSampler] = EpochSampler if sampling == "epochs" else IndependentSampler
    if isinstance(task.train, Stored) and task.train.window is not None:
        kind = partial(WindowSampler, again=sampling == "independent")
    if isinstance(task.train, Stored):
        keys = keys.cpu()  # where samples are read
    counts = partial(task.counts, task.train)
    return kind(task.train, holdings, keys, batch_size, counts, readers=readers, prefetch=prefetch)
