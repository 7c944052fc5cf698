"""Randomness inside a model: dropout masks are keyed by agent and step, whichever engine runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from basinet.algorithms import draws
from basinet.sim.data.generators import generator_states, restored_generators, seed_all
from basinet.sim.data.nests import leaves, map_nest
from basinet.sim.data.rows import take
from basinet.sim.models.modules import copy_model
from basinet.sim.tasks.task import Task

__all__ = [
    "CHANNEL_DROPOUTS",
    "DRAWS",
    "DROPOUTS",
    "KeyedDropout",
    "dropout_of",
    "keyed_dropout",
    "randomness_of",
    "seeded",
    "watch_draws",
]

Result = TypeVar("Result")

CHANNEL_DROPOUTS = (nn.functional.dropout1d, nn.functional.dropout2d, nn.functional.dropout3d)
"""Those of torch's functions that drop full channels."""

DROPOUTS = (nn.functional.dropout, *CHANNEL_DROPOUTS)
"""Those of torch's functions that are drawn by keys."""

DRAWS = "draws from the global generators of torch, numpy or random"
"""What only the loop can key, as it is put in messages."""


def keyed_dropout(x: Tensor, p: float, keys: Tensor, *, channels: bool = False) -> Tensor:
    """Drop elements with probability p and scale the others by 1 / (1 − p).

    Args:
        x: Activations [*keys.shape, B, ...].
        p: Probability of dropping an element.
        keys: One key per agent, int64.
        channels: Whether to drop full channels [B, C].

    Returns:
        A tensor of the shape of `x`.
    """
    shape = tuple(x.shape[keys.ndim :])
    if channels:
        shape = shape[:2] + (1,) * len(shape[2:])
    kept = draws.uniform(keys, shape, dtype=torch.float32) >= p
    return x * (kept.to(x.dtype) / (1 - p)) if p < 1 else x * 0


class KeyedDropout(TorchFunctionMode):
    """Replaces torch's functional dropout by `keyed_dropout` while active.

    Args:
        keys: One key per agent, folded with a counter so that each dropout of a pass has its own mask.
    """

    def __init__(self, keys: Tensor) -> None:
        super().__init__()
        self.keys = keys
        self.calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func not in DROPOUTS:
            return func(*args, **(kwargs or {}))
        return self._dropout(func in CHANNEL_DROPOUTS, *args, **(kwargs or {}))

    def _dropout(
        self, channels: bool, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training:
            return input
        self.calls += 1
        return keyed_dropout(input, p, draws.fold(self.keys, self.calls - 1), channels=channels)


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python, and restore them at the end.

    Args:
        key: The seed.

    Yields:
        Nothing.
    """
    with restored_generators(), torch.random.fork_rng():
        seed_all(key)
        yield


def randomness_of(model: nn.Module, task: Task) -> tuple[bool, bool]:
    """Find out whether a model or its loss draws random numbers in training mode.

    Args:
        model: The model; it is not changed.
        task: Gives a small batch, and the loss.

    Returns:
        Whether they use dropout, and whether they draw anything else from the global generators.
    """
    model = copy_model(model).train()
    batch = map_nest(torch.clone, take(task.train, slice(0, 2)))  # the model may write into its inputs
    device = leaves(batch)[0].device
    mode = KeyedDropout(torch.zeros((), dtype=torch.int64, device=device))

    def compute() -> None:
        with torch.enable_grad(), mode:  # a loss may contain derivatives
            task.objective(model, batch)

    _, random = watch_draws(compute, device)
    return mode.calls > 0, random


def dropout_of(model: nn.Module, task: Task) -> bool:
    """Find out whether a model or its loss uses dropout, and draws nothing else: then agents can be batched.

    Args:
        model: The model; it is not changed.
        task: See `randomness_of`.

    Returns:
        Whether they use dropout.

    Raises:
        ValueError: They draw from the global generators, which no batched computation can key.
    """
    dropout, random = randomness_of(model, task)
    if random:
        raise ValueError(f"the model or its loss {DRAWS}: only dropout can be drawn in a batch")
    return dropout


def watch_draws(compute: Callable[[], Result], device: torch.device) -> tuple[Result, bool]:
    """Find out whether a computation draws from the global generators of torch, NumPy or Python, which are restored.

    Args:
        compute: The computation.
        device: Where it runs.

    Returns:
        Its result, and whether it draws.
    """
    with restored_generators(), torch.random.fork_rng():
        states = _states(device)
        result = compute()
        changed = states != _states(device)
    return result, changed


def _states(device: torch.device) -> tuple[object, ...]:
    on_device = torch.cuda.get_rng_state(device).tolist() if device.type == "cuda" else None
    return *generator_states(), on_device
