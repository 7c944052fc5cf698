"""The ranks that torchrun, Slurm or somebody else has started, as the environment says."""

import os

from basinet.sim.experiment.component import ExperimentError

__all__ = ["num_ranks", "started", "world"]

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def num_ranks() -> int:
    """Count the ranks that have been started, without meeting them.

    Returns:
        Their number; 1 if the environment does not say where ranks meet: nobody has started this process as one.

    Raises:
        ExperimentError: What the environment says of ranks cannot be.
    """
    return world()[1] if started() else 1


def started() -> bool:
    """Whether the environment says where ranks meet: torchrun, or somebody else, has started this process as one."""
    return all(map(os.environ.get, _NEEDED))


def world() -> tuple[int, int, str]:
    """Read which rank this is, of how many, and where they meet.

    Returns:
        The rank, the number of ranks, and HOST:PORT.

    Raises:
        ExperimentError: They are no such numbers.
    """
    texts = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")]
    rank, size, port = (int(text) if text.isdecimal() else -1 for text in texts)
    if not (0 <= rank < size and 0 < port < 2**16):
        raise ExperimentError(
            f"RANK, WORLD_SIZE, MASTER_PORT: got {', '.join(map(repr, texts))}; allowed are a rank below the number of"
            " ranks, and a port; torchrun sets them, else unset RANK and WORLD_SIZE"
        )
    return rank, size, f"{os.environ['MASTER_ADDR']}:{port}"
