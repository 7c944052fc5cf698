"""`basinet upscale`: enlarge images by the network of a finished run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from basinet.launch.cli.output import DONE, FAILED, say
from basinet.launch.finished.upscaling import upscale
from basinet.launch.progress_bar import bar
from basinet.sim.vision.picture_folders import Changed

__all__ = ["execute", "tell"]

_MOST_NAMES, _MOST_SENTENCES = 5, 20
"""Most files that are named, and most of those that cannot be used."""


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    with bar("upscale", quiet=options.quiet) as shown:
        changed = upscale(
            options.images,
            options.model,
            options.out,
            self_ensemble=options.self_ensemble,
            tile=options.tile,
            overlap=options.overlap,
            replica=options.replica,
            agent=options.agent,
            fresh=options.fresh,
            device=options.device,
            shown=shown,
        )
    return tell(changed)


def tell(changed: Changed) -> int:
    """Say what has become of images.

    Args:
        changed: What has.

    Returns:
        The exit status.
    """
    if changed.written:
        say(f"written: {_some(changed.written)}")
    if changed.kept:
        say(f"kept, since already there: {_some(changed.kept)}; --fresh makes them anew")
    folders = [path for path in changed.left_out if path.is_dir()]
    if files := [path for path in changed.left_out if not path.is_dir()]:
        say(f"left out, since not named like images: {_some(files)}")
    if folders:
        say(f"left out, since folders in folders are not entered: {_some(folders)}")
    for sentence in changed.failed[:_MOST_SENTENCES]:
        say(f"basinet: {sentence}")
    if len(changed.failed) > _MOST_SENTENCES:
        say(f"and {len(changed.failed) - _MOST_SENTENCES:,} more")
    return FAILED if changed.failed else DONE


def _some(files: Sequence[Path]) -> str:
    more = f" and {len(files) - _MOST_NAMES:,} more" if len(files) > _MOST_NAMES else ""
    return ", ".join(map(str, files[:_MOST_NAMES])) + more
