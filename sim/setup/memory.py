"""The memory of this machine, and sizes in words."""

import os
from functools import cache
from pathlib import Path

__all__ = ["in_units", "memory", "require_memory"]

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with a container's memory limit: cgroups of version 2 and 1."""


@cache
def memory() -> int:
    """Return how much memory this process can use.

    Returns:
        The bytes of the machine, or of the container that it runs in.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _LIMITS:
        try:
            found.append(int(Path(name).read_text("ascii")))
        except (OSError, ValueError):  # missing, or "max"
            continue
    return min(found)


def require_memory(wanted: float, what: str) -> None:
    """Raise if something does not fit in this machine's memory, before it is allocated.

    Args:
        wanted: Bytes.
        what: What would take them.

    Raises:
        ValueError: It does not fit.
    """
    if wanted > memory():
        raise ValueError(f"{what} would take {in_units(wanted)} of memory, and this machine has {in_units(memory())}")


def in_units(size: float) -> str:
    """Format a number of bytes.

    Args:
        size: Bytes.

    Returns:
        The number with a binary unit in which it is below 1000, if there is one.

    Example:
        >>> in_units(3 * 2**30), in_units(10)
        ('3 GiB', '10 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.3g} PiB"
