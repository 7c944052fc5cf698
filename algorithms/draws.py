"""Keyed random draws: a pure function of (seed, replica, agent, purpose, step), on any device.

A key is a 64-bit integer; `fold` derives a new key from a key and a number, and the draws hash a key with a
counter. Nothing is stored between draws, so where an agent runs, in what order, and whether a run was resumed
cannot change what it draws. The hash is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable
pseudorandom number generators, OOPSLA 2014, doi:10.1145/2660193.2660195) in wrapping int64 arithmetic, which
is exact on every device.
"""

import hashlib
import math
import sys

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

__all__ = ["agent_keys", "fold", "integers", "key", "normal", "permutation", "uniform"]

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_MASK = (1 << 64) - 1
_HALF = (1 << 32) - 1
_SIGN = 1 << 63

_CALL = 2**11
"""Hashes for which torch takes as long as for the calls that compute them."""

_WORTH = 2**25
"""Hashes for which torch takes about as long as numba takes to load."""

_hashed = 0
"""Hashes so far, with those that calls stand for: a short run needs no more than torch computes while numba loads."""


def key(seed: int, *parts: int | str) -> int:
    """Derive a key on the host.

    Args:
        seed: The experiment's seed.
        *parts: What the draw is for: replica, agent, purpose, step, in any fixed order.

    Returns:
        An integer in [0, 2⁶³), fit for `torch.manual_seed` and `numpy.random.default_rng` as well.

    Example:
        >>> key(0, "data", 1) == key(0, "data", 1), key(0, "data", 1) == key(0, "data", 2)
        (True, False)
    """
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def agent_keys(seed: int, purpose: str, replicas: Tensor, agents: Tensor) -> Tensor:
    """Derive one key for each agent of a block.

    Args:
        seed: The experiment's seed.
        purpose: What the draws are for, such as "batch".
        replicas: Replica of each row, int64 [N].
        agents: Agent of each row, int64 [N].

    Returns:
        Keys, int64 [N], on the device of `agents`.
    """
    root = torch.full_like(agents, key(seed, purpose))
    return fold(fold(root, replicas), agents)


def fold(keys: Tensor, data: Tensor | int) -> Tensor:
    """Derive new keys from keys and numbers (a step, a layer, a position), with broadcasting.

    Args:
        keys: int64 tensor.
        data: Integers, broadcast against `keys`.

    Returns:
        int64 tensor of the broadcast shape.
    """
    if not isinstance(data, Tensor):
        data = _wrap(data)
    if _loops_pay(keys, *(data,) if isinstance(data, Tensor) else ()):
        from basinet.algorithms import row_kernels  # imports numba, which is slow

        return row_kernels.fold(keys, data)
    h = keys + ((data + 1) * _GOLDEN if isinstance(data, Tensor) else _wrap((data + 1) * _GOLDEN))
    h = (h ^ _shift(h, 30)) * _MIX_1
    h = (h ^ _shift(h, 27)) * _MIX_2
    return h ^ _shift(h, 31)


def _wrap(number: int) -> int:
    """Wrap an integer to 64 bits, which Python's are not."""
    return ((number + _SIGN) & _MASK) - _SIGN


def _loops_pay(*tensors: Tensor, count: int = 1) -> bool:
    """Return whether compiled loops, which give the same numbers, take tensors and are worth loading.

    They take tensors on the CPU, unless these are wrapped by a transform such as vmap.
    """
    global _hashed
    if not all(each.is_cpu and not is_functorch_wrapped_tensor(each) for each in tensors):
        return False
    if "basinet.algorithms.row_kernels" in sys.modules:
        return True
    _hashed += _CALL + count * max(each.numel() for each in tensors)
    return _hashed > _WORTH


def _shift(h: Tensor, bits: int) -> Tensor:
    """Shift right logically, without the sign."""
    return (h >> bits) & (_MASK >> bits)


def _bits(keys: Tensor, shape: tuple[int, ...], bits: int) -> Tensor:
    """Draw integers of the given number of bits, [*keys.shape, *shape]."""
    counter = torch.arange(math.prod(shape), device=keys.device).view(shape)
    return _shift(fold(keys.view(*keys.shape, *(1 for _ in shape)), counter), 64 - bits)


def uniform(keys: Tensor, shape: tuple[int, ...], *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw from the uniform distribution on [0, 1).

    Args:
        keys: int64 [...].
        shape: Shape of the draw of one key.
        dtype: float64 (53 random bits), or a shorter type (24 bits, drawn in float32).

    Returns:
        Tensor [*keys.shape, *shape].
    """
    if dtype == torch.float64:
        return _bits(keys, shape, 53).to(dtype) * 2.0**-53
    return (_bits(keys, shape, 24).to(torch.float32) * 2.0**-24).to(dtype)


def normal(keys: Tensor, shape: tuple[int, ...], *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw from the standard normal distribution, by the Box–Muller transform.

    A 64-bit hash makes two numbers: one half is their radius, the other their angle. The draw is the same in every
    type, to rounding, and never beyond 6.8.

    Args:
        keys: int64 [...].
        shape: Shape of the draw of one key.
        dtype: float64, or a shorter type (computed in float32).

    Returns:
        Tensor [*keys.shape, *shape].
    """
    size, exact = math.prod(shape), torch.float64 if dtype == torch.float64 else torch.float32
    radius, angle = _halves(keys, (size + 1) // 2, exact)
    radius = radius.log_().mul_(-2.0).sqrt_()
    z = torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], dim=-1)
    return z[..., :size].reshape((*keys.shape, *shape)).to(dtype)


def _halves(keys: Tensor, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Hash keys with counters: one half of each hash makes a number in (0, 1], the other an angle."""
    if _loops_pay(keys, count=count):
        from basinet.algorithms import row_kernels

        made = row_kernels.halves(keys, count, dtype)
        return made[0], made[1]
    hashes = fold(keys.unsqueeze(-1), torch.arange(count, device=keys.device))
    radius = _shift(hashes, 32).to(dtype).add_(0.5).mul_(2.0**-32)
    return radius, (hashes & _HALF).to(dtype).mul_(2.0 * math.pi * 2.0**-32)


def integers(keys: Tensor, high: Tensor | int, shape: tuple[int, ...]) -> Tensor:
    """Draw integers from [0, high) with equal probability (to within high / 2³²).

    Args:
        keys: int64 [...].
        high: Bound below 2³¹, one for all or one per key (same shape as `keys`).
        shape: Shape of the draw of one key.

    Returns:
        int64 tensor [*keys.shape, *shape].
    """
    if isinstance(high, Tensor):
        high = high.view(*high.shape, *(1 for _ in shape))
    return (_bits(keys, shape, 32) * high) >> 32


def permutation(keys: Tensor, sizes: Tensor, length: int) -> Tensor:
    """Draw a random order of 0 … size−1 for each key.

    Args:
        keys: int64 [N].
        sizes: How many numbers each key orders, int64 [N].
        length: Columns of the result, at least the largest size.

    Returns:
        int64 [N, length]; row n holds its permutation in the first `sizes[n]` entries, followed by padding.
    """
    order = _bits(keys, (length,), 62)
    padding = torch.arange(length, device=keys.device) >= sizes[:, None]
    return order.masked_fill_(padding, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)
