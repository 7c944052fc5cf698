"""The command line. Torch and Ray are imported by the commands that need them, so that `--help` is quick."""

from basinet.launch.cli.entry import main

__all__ = ["main"]
