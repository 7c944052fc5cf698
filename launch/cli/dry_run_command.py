"""`basinet run --dry-run`: check an experiment and show its runs."""

import argparse
from pathlib import Path

from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.statistics.incidents import excuses
from basinet.launch.cli.experiment_words import find_experiment
from basinet.launch.cli.output import DONE, say, write_json
from basinet.launch.cli.tables import write_table
from basinet.launch.preview import about, preview
from basinet.launch.progress_bar import checking, how_many
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.simulation import build
from basinet.sim.setup.room import check_disk

__all__ = ["execute"]

_MOST_SHOWN = 200
"""Most runs shown; JSON holds all."""


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    file, overrides = find_experiment(options.words)
    experiment = Experiment.load(file, overrides)
    with checking(len(experiment.runs), quiet=options.quiet) as progress:
        setups, impossible = build(experiment, check=check_analysis, progress=progress)
    check_disk(setups, options.out or Path("runs") / file.stem)
    configs = {name: setup.config.describe() for name, setup in setups.items()}
    if options.json:
        write_json(configs)
    else:
        common, rows = preview(configs, _MOST_SHOWN)
        write_table(("all runs", ""), common)
        write_table(("run", "what it differs in"), rows)
    if len(configs) > _MOST_SHOWN and not options.json:
        say(f"{len(configs) - _MOST_SHOWN:,} more runs; --json prints all")
    for sentence in excuses(impossible):
        say(sentence)
    for line in about(setups.values()):
        say(line)
    say(f"{how_many(len(configs))}, nothing written")
    return DONE
