"""The global random generators of torch, NumPy and Python, from which the user's items may draw."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["generator_states", "restored_generators", "seed_all", "seed_generators"]

_MASK = (1 << 63) - 1


def seed_generators(seed: int) -> int:
    """Seed the global generators.

    Args:
        seed: Any integer.

    Returns:
        A seed in [0, 2⁶³) for a generator of its own.
    """
    seed &= _MASK
    torch.default_generator.manual_seed(seed)  # not the GPUs', which no reader of data uses
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
    return seed


def seed_all(seed: int) -> None:
    """Seed the global generators, those of the GPUs too.

    Args:
        seed: Any integer.
    """
    seed = seed_generators(seed)
    if torch.accelerator.is_available():  # else torch would keep each seed, with a traceback, until there is a GPU
        torch.manual_seed(seed)


def generator_states() -> tuple[object, ...]:
    """Return the states of the global generators.

    Returns:
        Values that are equal if nothing has been drawn between two calls.
    """
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    words, place = numpy["state"].values()
    kept = words.tobytes(), place, numpy["has_gauss"], numpy["gauss"]
    return torch.default_generator.get_state().numpy().tobytes(), random.getstate(), kept


@contextmanager
def restored_generators() -> Iterator[None]:
    """Restore the global generators at the end.

    Yields:
        Nothing.
    """
    states = torch.default_generator.get_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])  # noqa: NPY002
