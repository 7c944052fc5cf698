"""`basinet run`: carry out an experiment."""

import argparse
import os
import shlex
from pathlib import Path

from basinet.analysis.statistics.incidents import excuses, incidents
from basinet.launch.api import run
from basinet.launch.cli.experiment_words import find_experiment
from basinet.launch.cli.output import DONE, FAILED, INTERRUPTED, say, say_some
from basinet.launch.cli.tables import write_summary
from basinet.launch.recipes import Machines, launcher
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.pipeline import read_experiment
from basinet.sim.run.simulation import Interrupted, RunFailed
from basinet.sim.runtimes.runtime import runtimes_of
from basinet.sim.runtimes.world import num_ranks

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    file, overrides = find_experiment(options.words)
    experiment = read_experiment(file, overrides)
    runtimes = runtimes_of(experiment.runs.values()).values()
    on_ranks = any(runtime.on_ranks for runtime in runtimes)
    out = options.out or Path("runs") / file.stem
    if not on_ranks and num_ranks() > 1:
        raise ExperimentError(
            f"runtime.name: RANK and WORLD_SIZE say that {num_ranks()} ranks have been started, of which this"
            " experiment would leave all but one idle; give runtime.name=torchrun, or unset them"
        )
    status = DONE
    try:
        results = run(experiment, out=out, fresh=options.fresh, quiet=options.quiet)
    except RunFailed as error:
        results, status = error.results, FAILED
    except Interrupted:
        if any(runtime.follows() for runtime in runtimes):
            return INTERRUPTED
        place = ["--out", str(options.out)] if options.out else []
        again = shlex.join(["run", *options.words, *place])
        say(f"interrupted; everything reached is in {out}. To go on: {_launcher() if on_ranks else 'basinet'} {again}")
        return INTERRUPTED
    if any(runtime.follows() for runtime in runtimes):
        return status
    if not out.is_dir():  # removed during the run, as the failures say
        say_some(results.failures)
        return status
    runs = results.runs
    try:
        write_summary(runs, options.json)
    except OSError as error:  # the experiment itself is done
        say(f"{error.filename}: {error.strerror}; the summary is in {out / 'summary.csv'}")
    say_some((*excuses(results.impossible), *results.failures))
    # Failed runs have been reported above.
    say_some(incidents([run for run in runs if run.status["state"] != "failed"]))
    if results.report.exists():
        say(f"report: {results.report}")
    return status


def _launcher() -> str:
    """Return the command with which torchrun started this process."""
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))
    return launcher(Machines(nodes=nodes, workers=num_ranks() // nodes))
