"""The memory and the processors that this process may use, and sizes in words."""

import math
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

__all__ = ["in_units", "memory", "processors", "require_memory"]

_OWN = Path("/proc/self/cgroup")
"""The cgroups of this process, a line each: a number, controllers, and a path below where they are mounted."""

_MOUNTS = Path("/sys/fs/cgroup")


@cache
def memory() -> int:
    """Return how much memory this process can use.

    Returns:
        The bytes of the machine, or fewer where its cgroup (of a container or a job), one above it, or Slurm grants
        fewer.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _cgroups("memory"):
        found += _numbers(folder / "memory.max")[:1] + _numbers(folder / "memory.limit_in_bytes")[:1]
    megabytes = [_of_slurm("SLURM_MEM_PER_NODE")]
    megabytes.append(_of_slurm("SLURM_MEM_PER_CPU") * (_of_slurm("SLURM_CPUS_ON_NODE") or processors()))
    found += [size * 2**20 for size in megabytes if size]
    return min(found)


@cache
def processors() -> int:
    """Return how many processors this process can use.

    Returns:
        Those of its affinity, or fewer where the quota of its cgroup, one above it, or Slurm grants fewer; a part of
        one counts as one.
    """
    found: list[float] = [len(os.sched_getaffinity(0))]
    for folder in _cgroups("cpu"):
        quotas = [_numbers(folder / "cpu.max")]
        quotas.append(_numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us"))
        found += [quota[0] / quota[1] for quota in quotas if len(quota) == 2 and min(quota) > 0]
    found += [count for count in [_of_slurm("SLURM_CPUS_PER_TASK") or _of_slurm("SLURM_CPUS_ON_NODE")] if count]
    return max(1, math.ceil(min(found)))


def _cgroups(controller: str) -> Iterator[Path]:
    """Yield the folders of the cgroups that limit this process: its own, and all above it."""
    try:
        lines = [line.split(":", 2) for line in _OWN.read_text("utf-8").splitlines()]
    except OSError:  # not Linux
        lines = []
    for _, controllers, path in [line for line in lines if len(line) == 3]:
        if controller in controllers.split(","):  # version 1
            mounts: Sequence[Path] = (_MOUNTS / controllers, _MOUNTS / controller)
        elif not controllers:  # version 2, beside version 1 in a folder of its own
            mounts = (_MOUNTS, _MOUNTS / "unified")
        else:
            continue
        for mount in dict.fromkeys(mounts):
            # In a container, the path may be that of the host, of which only the root can be seen.
            own = mount / path.lstrip("/")
            yield from (own, *(folder for folder in own.parents if folder.is_relative_to(mount)))


def _numbers(file: Path) -> list[int]:
    """Read the numbers in a file; none if it is missing, or says "max"."""
    try:
        return [int(word) for word in file.read_text("ascii").split()]
    except (OSError, ValueError):
        return []


def _of_slurm(name: str) -> int:
    """Read a variable of Slurm; 0 if it is not set, or grants all."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def require_memory(wanted: float, what: str) -> None:
    """Raise if something does not fit in this machine's memory, before it is allocated.

    Args:
        wanted: Bytes.
        what: What would take them.

    Raises:
        ValueError: It does not fit.
    """
    if wanted > memory():
        raise ValueError(f"{what} would take {in_units(wanted)} of memory, and this process has {in_units(memory())}")


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
