"""Names of the files of checkpoints, which are found without reading them."""

from pathlib import Path

__all__ = ["CHECKPOINTS", "EARLIER", "SUFFIX", "on_disk"]

CHECKPOINTS = "checkpoint"
"""The folder in a run's folder."""

SUFFIX = ".safetensors"

EARLIER = ".pt"
"""Suffix of the files that earlier versions wrote."""


def on_disk(path: Path) -> Path:
    """Find a file that an earlier version may have written.

    Args:
        path: The file as it is called now.

    Returns:
        The earlier version's file if there is only that one, otherwise the path as given.
    """
    earlier = path.with_suffix(EARLIER)
    return earlier if earlier.exists() and not path.exists() else path
