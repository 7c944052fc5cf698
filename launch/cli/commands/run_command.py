"""`basinet run`: carry out an experiment."""

import argparse
import os
import shlex
from pathlib import Path

from basinet.launch.api import run
from basinet.launch.cli.experiment_words import find_experiment
from basinet.launch.cli.output import DONE, FAILED, INTERRUPTED, say, say_some
from basinet.launch.clusters.machines import Machines, SameMachines
from basinet.launch.clusters.torchrun_script import launcher
from basinet.launch.results import Results
from basinet.launch.status.small_work import alone_instead
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.experiment.pipeline import read_experiment
from basinet.sim.run.execution.usage_record import load_usage
from basinet.sim.run.simulation import Interrupted, RunFailed
from basinet.sim.runtimes import ON_RANKS
from basinet.sim.runtimes.runtime import runtimes_of
from basinet.sim.runtimes.world import num_ranks

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    file, overrides = find_experiment(options.words)
    experiment = read_experiment(file, overrides)
    runtimes = runtimes_of(experiment.runs.values())
    on_ranks = not ON_RANKS.isdisjoint(runtimes)
    out = options.out or Path("runs") / file.stem
    if not on_ranks and num_ranks() > 1:
        raise ExperimentError(
            f"runtime.name: RANK and WORLD_SIZE say that {num_ranks()} ranks have been started, of which this"
            " experiment would leave all but one idle; give runtime.name=torchrun, or unset them"
        )
    status = DONE
    try:
        results = run(experiment, out=out, fresh=options.fresh, quiet=options.quiet, part=options.part)
    except RunFailed as error:
        results, status = error.results, FAILED
    except Interrupted:
        if any(runtime.follows() for runtime in runtimes.values()):
            return INTERRUPTED
        given = {"--out": options.out, "--part": options.part}
        again = shlex.join(["run", *options.words, *(str(w) for pair in given.items() if pair[1] for w in pair)])
        say(f"interrupted; everything reached is in {out}. To go on: {_launcher() if on_ranks else 'basinet'} {again}")
        return INTERRUPTED
    if any(runtime.follows() for runtime in runtimes.values()):
        return status
    if not out.is_dir():  # removed during the run, as the failures say
        say_some(results.failures)
        return status
    if results.left:
        say_some(results.failures)
        say(f"part {options.part} has ended; {count_of(len(results.left), 'run')} left to others, who write the report")
        return status
    _write(results, as_json=options.json)
    return status


def _write(results: Results, *, as_json: bool) -> None:
    """Write the summary, what readers must know beside it, and where the report is."""
    from basinet.analysis.statistics.incidents import excuses, incidents  # tables are not needed to begin a run
    from basinet.launch.cli.tables import write_summary

    runs = results.runs
    try:
        write_summary(runs, as_json)
    except OSError as error:  # the experiment itself is done
        say(f"{error.filename}: {error.strerror}; the summary is in {results.folder / 'summary.csv'}")
    say_some((*excuses(results.impossible), *results.failures))
    # Failed runs have been reported above.
    say_some(incidents([run for run in runs if run.status["state"] != "failed"]))
    if advice := alone_instead({run.name: load_usage(run.path).get("workers", []) for run in runs}):
        say(advice)
    if results.report.exists():
        say(f"report: {results.report}")


def _launcher() -> str:
    """Return the command that started this process on a rank, without its arguments."""
    if "SLURM_PROCID" in os.environ:
        return "submit the job again, with basinet"
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))
    return launcher(Machines((SameMachines(nodes, num_ranks() // nodes),)))
