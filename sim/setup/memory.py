"""What this machine has of memory, and sizes in words."""

import os
from functools import cache
from pathlib import Path

__all__ = ["in_units", "memory", "require_memory"]

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container says how much memory it may take: cgroups of version 2 and 1."""


@cache
def memory() -> int:
    """Find how much memory this process can have.

    Returns:
        Bytes: those of the machine, or of the container that it is in.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _LIMITS:
        try:
            found.append(int(Path(name).read_text("ascii")))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(found)


def require_memory(wanted: float, what: str) -> None:
    """Raise if this machine cannot hold something, before it is allocated.

    Args:
        wanted: Bytes.
        what: What takes them.

    Raises:
        ValueError: There is not enough.
    """
    if wanted > memory():
        raise ValueError(f"{what} would take {in_units(wanted)} of memory, and this machine has {in_units(memory())}")


def in_units(size: float) -> str:
    """Write a number of bytes.

    Args:
        size: Bytes.

    Returns:
        The number, below 1000 of its unit if there is such a unit.

    Example:
        >>> in_units(3 * 2**30), in_units(10)
        ('3 GiB', '10 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.3g} PiB"
