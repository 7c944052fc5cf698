"""Small networks that are trained on pretext tasks at first use, and kept."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from basinet.algorithms.draws import key
from basinet.sim.data.generators import restored_generators, seed_generators
from basinet.sim.data.items import Items
from basinet.sim.data.memory_map import cached_separately
from basinet.sim.experiment.digest import digest
from basinet.sim.vision.extractors.pretexts import CHANNELS, PRETEXTS

__all__ = ["Budget", "Learnt", "PretextNetwork", "one_thread", "pretrained", "untrained"]

_log = logging.getLogger(__name__)

_REVISION = 2
"""Of pretext tasks and of training; another one trains networks anew."""

_BATCH, _RATE = 64, 3e-3


@dataclass(frozen=True)
class Budget:
    """What a network is trained with.

    Attributes:
        samples: Most samples.
        steps: Number of steps, each with 64 samples.
    """

    samples: int = 6000
    steps: int = 600


class Learnt(NamedTuple):
    """A network, and what it has learnt.

    Attributes:
        network: The network.
        score: Its score on held-out samples; see `Pretext`.
    """

    network: "PretextNetwork"
    score: float


class PretextNetwork(nn.Module):
    """Four convolutional layers of 46,672 parameters, all of which it returns.

    There is no normalisation, which would hide how much contrast an image has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2 if place else 1, padding=1, dtype=torch.float32)
            for place, (inputs, outputs) in enumerate(zip((3, *CHANNELS), CHANNELS, strict=False))
        )
        for layer in self.convolutions:
            assert isinstance(layer, nn.Conv2d)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the layers of images [n, 3, H, W], from 0 to 1."""
        x, found = 2 * images - 1, []
        for layer in self.convolutions:
            x = torch.relu(layer(x))
            found.append(x)
        return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread within this context, so that sums are in the same order everywhere.

    Yields:
        Nothing.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pretrained(names: Sequence[str], folder: Path, budget: Budget) -> dict[str, Learnt]:
    """Train networks, unless they are kept.

    Args:
        names: Which of `PRETEXTS` they are trained on.
        folder: The folder of all that is kept.
        budget: What each is trained with.

    Returns:
        What has been learnt, by name.

    Raises:
        ExperimentError: The folder cannot be written.
    """
    made = [_REVISION, budget, torch.__version__]
    keys = [digest([name, PRETEXTS[name].content(), made]) for name in names]
    items = Items(source=_Trained(tuple(names), budget), name="networks that are trained on pretext tasks")
    kept = cached_separately(items, keys, torch.empty(0), folder)
    found = {}
    for row, name in enumerate(names):
        *_, score = numbers = kept[row]
        network = untrained(name)
        vector_to_parameters(numbers[:-1], network.parameters())
        found[name] = Learnt(network, float(score))
    return found


def untrained(name: str) -> PretextNetwork:
    """Make a network as it is before training.

    Args:
        name: A key of its random weights.

    Returns:
        The network, frozen.
    """
    with restored_generators():
        seed_generators(key(0, "extractor", name))
        return PretextNetwork().requires_grad_(False).eval()


@dataclass(frozen=True)
class _Trained:
    """Networks as the items of a data set: their parameters in one vector, and then their score."""

    names: tuple[str, ...]
    budget: Budget

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Tensor:
        with one_thread(), torch.enable_grad():
            trained = _train(self.names[row], self.budget)
        name, pretext = self.names[row], PRETEXTS[self.names[row]]
        _log.warning(
            "task.extractors: %s has learnt to tell %s: %s %.2f on samples held out, %.2f by chance",
            *(name, pretext.words, pretext.measure, trained[-1], pretext.chance),
        )
        return trained


def _train(name: str, budget: Budget) -> Tensor:
    """Train a network, and return its parameters and its score."""
    pretext, network = PRETEXTS[name], untrained(name).requires_grad_(True)
    random = np.random.default_rng(seed_generators(key(0, "pretext", name)))
    model = nn.Sequential(network, _Last(), pretext.head())
    images, targets = pretext.samples(random, budget.samples, False)
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=budget.steps + 1)
    for _ in range(budget.steps):
        rows = torch.from_numpy(random.integers(len(images), size=_BATCH))
        loss = pretext.loss(model(images[rows]), targets[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    held = pretext.samples(random, budget.samples // 4, True)
    with torch.no_grad():
        score = pretext.score(held, torch.cat([model(part) for part in torch.split(held.images, _BATCH)]))
        return torch.cat([parameters_to_vector(network.parameters()), torch.tensor([score])])


class _Last(nn.Module):
    """Takes the last of several layers."""

    def forward(self, layers: list[Tensor]) -> Tensor:
        return layers[-1]
