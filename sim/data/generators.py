"""The global random generators of torch, NumPy and Python, from which the user's items may draw."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["restored_generators", "seed_generators"]

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
