"""`basinet launch`: print a script that runs an experiment on several machines."""

import argparse
from pathlib import Path

from basinet.launch.cli.experiment_words import find_experiment
from basinet.launch.cli.output import DONE, write
from basinet.launch.clusters.cluster_recipes import script
from basinet.launch.clusters.machines import Job, Machines
from basinet.launch.clusters.slurm_script import slurm_options

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    file, overrides = find_experiment(options.words)
    machines = Machines.parse(options.nodes, options.workers, options.cpus, options.gpus, options.memory)
    text = script(
        options.recipe,
        Job(file, tuple(overrides), options.out or Path("runs") / file.stem, machines),
        time=options.time,
        array=options.array,
        requeue=options.requeue,
        slurm=None if options.slurm is None else slurm_options(options.slurm),
        image=options.image,
        volume=options.volume,
    )
    write(text.rstrip("\n"))
    return DONE
