"""`basinet shrink`: make the small images of super-resolution."""

import argparse

from basinet.launch.cli.commands.models.upscale_command import tell
from basinet.launch.progress_bar import bar
from basinet.sim.vision.picture_folders import shrink_folder

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    with bar("shrink", quiet=options.quiet) as shown:
        return tell(shrink_folder(options.folder, options.out, options.factor, fresh=options.fresh, shown=shown))
