"""The ranks started by torchrun, Slurm or another launcher, as given by the environment."""

import os

from basinet.sim.experiment.component import ExperimentError

__all__ = ["is_task", "num_ranks", "started", "world"]

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def num_ranks() -> int:
    """Return the number of ranks that have been started, without meeting them.

    Returns:
        Their number; 1 if no launcher has started this process.

    Raises:
        ExperimentError: The variables of the environment are invalid.
    """
    return world()[1] if started() else 1


def started() -> bool:
    """Return whether torchrun or another launcher has started this process, as given by the environment."""
    return all(map(os.environ.get, _NEEDED))


def is_task() -> bool:
    """Return whether this rank is a task of Slurm, which has processors of its own, as given by the environment."""
    return "SLURM_CPUS_PER_TASK" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ


def world() -> tuple[int, int, str]:
    """Return this rank, the number of ranks, and their address.

    Returns:
        The rank, the number of ranks, and HOST:PORT.

    Raises:
        ExperimentError: The variables of the environment are invalid.
    """
    texts = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")]
    rank, size, port = (int(text) if text.isdecimal() else -1 for text in texts)
    if not (0 <= rank < size and 0 < port < 2**16):
        raise ExperimentError(
            f"RANK, WORLD_SIZE, MASTER_PORT: got {', '.join(map(repr, texts))}; allowed are a rank below the number of"
            " ranks, and a port; torchrun sets them; otherwise, unset RANK and WORLD_SIZE"
        )
    return rank, size, f"{os.environ['MASTER_ADDR']}:{port}"
