"""`basinet run --dry-run`: check an experiment and show its runs."""

import argparse
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.statistics.incidents import excuses
from basinet.launch.cli.experiment_words import find_experiment
from basinet.launch.cli.output import DONE, say, write_json
from basinet.launch.cli.printed_table import write_table
from basinet.launch.previews.preview import about, preview
from basinet.launch.progress_bar import checking, how_many
from basinet.launch.stages import plan_all
from basinet.launch.tuning.search_plan import about_search
from basinet.sim.experiment.grids.grid import place
from basinet.sim.experiment.pipeline import read_experiment
from basinet.sim.experiment.tuning.tuned_experiment import TunedExperiment
from basinet.sim.setup.room import check_disk
from basinet.sim.setup.setup import Setup

__all__ = ["execute"]

_MOST_SHOWN = 200
"""Most runs shown; JSON holds all."""


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    file, overrides = find_experiment(options.words)
    experiment = read_experiment(file, overrides)
    with checking(len(experiment.runs), quiet=options.quiet) as progress:
        if isinstance(experiment, TunedExperiment):
            say(about_search(experiment))
        stages = plan_all(experiment, check=check_analysis, progress=progress)
    every = {f"{stage}/{run}": setup for stage, (setups, _) in stages.items() for run, setup in setups.items()}
    check_disk(every, options.out or Path("runs") / file.stem)
    described = {stage: _described(setups) for stage, (setups, _) in stages.items()}
    if isinstance(experiment, TunedExperiment):
        for config, key in itertools.product(described[""].values(), experiment.tuning.values):
            place(config, key.split("."), "tuned")
    if options.json:
        write_json(described.get("", described))
    for stage, (setups, impossible) in stages.items():
        if not options.json:
            _show(stage, described[stage])
        for sentence in excuses(impossible):
            say(sentence)
        for line in about(setups.values()):
            say(line)
    say(f"{how_many(len(every))}, nothing written")
    return DONE


def _described(setups: Mapping[str, Setup]) -> dict[str, dict[str, Any]]:
    return {name: setup.config.describe() for name, setup in setups.items()}


def _show(stage: str, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Show what the runs of an experiment, or of a stage, have in common, and how they differ."""
    common, rows = preview(configs, _MOST_SHOWN)
    write_table((f"all runs of {stage}" if stage else "all runs", ""), common)
    write_table(("run", "what it differs in"), rows)
    if len(configs) > _MOST_SHOWN:
        say(f"{len(configs) - _MOST_SHOWN:,} more runs; --json prints all")
