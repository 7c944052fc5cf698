"""`basinet compare`: print the runs of several experiments side by side."""

import argparse

from basinet.launch.cli.output import DONE
from basinet.launch.cli.tables import write_summary
from basinet.sim.run.folder import load_runs

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    write_summary([run for folder in options.folders for run in load_runs(folder)], options.json)
    return DONE
