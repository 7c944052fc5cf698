"""`basinet launch`: print a script that runs an experiment on several machines."""

import argparse
from pathlib import Path

from basinet.launch.cli.experiment_words import find_experiment
from basinet.launch.cli.output import DONE, write
from basinet.launch.recipes import Machines, script

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    file, overrides = find_experiment(options.words)
    workers = options.workers or options.gpus or 1
    machines = Machines(options.nodes, workers, options.cpus, options.gpus, options.time)
    text = script(options.runtime, file, overrides, options.out or Path("runs") / file.stem, machines)
    write(text.rstrip("\n"))
    return DONE
