"""The Python interface: run an experiment."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.launch.previews.preview import about
from basinet.launch.progress_bar import TerminalMonitor, checking, how_many
from basinet.launch.results import Results, failures
from basinet.launch.stages import claim_stages, plan
from basinet.sim.evaluation.measuring import main_metric
from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.experiment import Experiment, parse_loggers
from basinet.sim.experiment.mistakes import first_line, shown
from basinet.sim.experiment.pipeline import Pipeline, make_experiment
from basinet.sim.experiment.tuning.tuned_experiment import Candidate, TunedExperiment
from basinet.sim.run.execution.part import Part, left_over
from basinet.sim.run.interruptions import stopping
from basinet.sim.run.listeners import Feeds, Listeners, OnEvaluate, check_loggers, close_ready
from basinet.sim.run.lock import locked
from basinet.sim.run.simulation import RunFailed, prepare, simulate
from basinet.sim.runtimes.runtime import Runtime, runtimes_of
from basinet.sim.runtimes.team import RankLostError

__all__ = ["run"]

T = TypeVar("T")


def run(
    experiment: Experiment | Pipeline | None = None,
    /,
    *,
    out: str | Path = "runs/experiment",
    fresh: bool = False,
    quiet: bool = False,
    part: str | None = None,
    loggers: Sequence[Any] = (),
    on_evaluate: OnEvaluate | None = None,
    **description: Any,
) -> Results:
    """Run an experiment, analyse its runs and write the report.

    The same experiment into the same folder resumes where it stopped and skips what is finished. Ctrl-C stops after the
    current step, with everything so far on disk.

    With the runtime "torchrun" every rank of the script calls this. The first rank leads and writes the files; all
    ranks return, or raise, the same, the others as soon as the analysis is done, before the report is drawn.

    Args:
        experiment: The experiment; alternatively, give its keys as keywords.
        out: The experiment's folder.
        fresh: Whether to discard what the folder holds.
        quiet: Whether to hide progress.
        part: "K/N" to execute each N-th run from the K-th, beside other jobs that execute the others into the same
            folder; the last one that ends writes the report.
        loggers: What else receives the metrics, besides the loggers of the experiment: names, mappings, classes, or
            objects with the methods of `basinet.sim.loggers.Logger`.
        on_evaluate: Called at each evaluation of a run with its name, the step, and a mapping from the number of each
            replica that has not diverged to its metrics by name. If it returns True or "stop", the run ends there.
        **description: Keys of an experiment, see `basinet.sim.experiment.config.Config`; with `stages`, a list of files
            and mappings, experiments one after another, see `basinet.sim.experiment.pipeline.Pipeline`.

    Returns:
        The results; those of all stages, if there are several.

    Raises:
        ExperimentError: Something in the experiment is not allowed; nothing was written.
        Interrupted: The run was stopped early; the message says where the results so far are.
        RunFailed: A run failed; all others are finished, the report is written, and `results` holds everything.
        OSError: The report cannot be written.
    """
    if on_evaluate is not None and not callable(on_evaluate):
        raise ExperimentError(f"on_evaluate: got {shown(on_evaluate)}; allowed is a function of run, step and metrics")
    if experiment is None:
        experiment = make_experiment(description)
    listening = _Listening(parse_loggers(loggers), on_evaluate)
    stages = experiment.stages.values() if isinstance(experiment, Pipeline) else [experiment]
    try:
        mine = None if part is None else Part.parse(part, experiment)
        if mine is not None and fresh:
            raise ExperimentError(f"--fresh: with --part {part} it would discard the runs of other jobs; leave it out")
        if isinstance(experiment, Pipeline):
            return _run_stages(experiment, Path(out), listening, fresh=fresh, quiet=quiet)
        if isinstance(experiment, TunedExperiment):
            experiment = experiment.chosen(_tune(experiment, Path(out), fresh=fresh, quiet=quiet))
        return _run(experiment, Path(out), listening, mine, fresh=fresh, quiet=quiet)
    finally:
        close_ready([*listening.loggers, *(logger for stage in stages for logger in stage.loggers)])


class _Listening(NamedTuple):
    """What listens to the runs of an experiment besides the terminal and the loggers that it names."""

    loggers: tuple[Component, ...]
    on_evaluate: OnEvaluate | None
    stage: str = ""


def _run(
    experiment: Experiment,
    out: Path,
    listening: _Listening,
    part: Part | None = None,
    *,
    fresh: bool,
    quiet: bool,
) -> Results:
    """Run a single experiment; see `run`."""
    runtimes = [*runtimes_of(experiment.runs.values()).values()]
    with ExitStack() as held:

        def carry_out() -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
            states, failed = _carry_out(experiment, out, held, listening, part, fresh=fresh, quiet=quiet)
            return states, failed, () if part is None else left_over(out)

        states, failed, left = _together(runtimes, carry_out)
        # The other ranks have returned already: they need not wait for the figures.
        if not left and not any(runtime.follows() for runtime in runtimes):
            try:
                _report(out)
            except OSError as error:
                if not failed:
                    raise
                if out.is_dir():  # otherwise the failures say that it was removed
                    failed = *failed, f"the report cannot be written: {first_line(error)}"
        results = Results(out, out / "report.html", states, failed, experiment, left)
        if failed:
            with suppress(RankLostError):
                _together(runtimes, lambda: None)  # torchrun kills all ranks as soon as one fails: wait for the report
            raise RunFailed("\n".join(failed), results)
    return results


def _report(out: Path) -> None:
    """Write the report."""
    from basinet.analysis.report.report import write_report  # imports matplotlib, for which no step should wait

    write_report(out)


def _tune(tuned: TunedExperiment, out: Path, *, fresh: bool, quiet: bool) -> dict[str, Candidate]:
    """Search for the values of an experiment that is tuned; see `run`."""
    from basinet.launch.tuning.search import searched

    runtimes = [*runtimes_of(tuned.runs.values()).values()]
    return _together(runtimes, partial(searched, tuned, out, fresh=fresh, quiet=quiet))


def _run_stages(pipeline: Pipeline, out: Path, listening: _Listening, *, fresh: bool, quiet: bool) -> Results:
    """Run the stages of an experiment that are not finished; see `run`."""
    runtimes = [*runtimes_of(pipeline.runs.values()).values()]

    def check() -> None:
        with checking(len(pipeline.runs), quiet=quiet) as progress:
            for _ in plan(pipeline, check=check_analysis, progress=progress):
                pass
        claim_stages(pipeline, out, fresh=fresh)

    _together(runtimes, check)
    results = Results(out, out / "report.html", {}, experiment=pipeline)
    for stage in pipeline.stages:
        failed = ""
        try:
            found = _run(
                pipeline.reached(stage, out), out / stage, listening._replace(stage=stage), fresh=False, quiet=quiet
            )
        except RunFailed as error:
            failed, found = str(error), error.results
        if not any(runtime.follows() for runtime in runtimes):
            _report(out)
        states = results.states | {f"{stage}/{run}": state for run, state in found.states.items()}
        results = replace(results, states=states, failures=found.failures)
        if failed:
            reason = f"{stage} has failed runs, so that the stages after it have not begun"
            results = replace(results, failures=(*found.failures, reason))
            raise RunFailed(f"{failed}\n{reason}", results)
    return results


def _together(runtimes: Iterable[type[Runtime]], work: Callable[[], T]) -> T:
    """Do work once where several processes call this, which all get the result."""
    for runtime in runtimes:
        work = partial(runtime.together, work)
    return work()


def _carry_out(
    experiment: Experiment,
    out: Path,
    held: ExitStack,
    listening: _Listening,
    part: Part | None,
    *,
    fresh: bool,
    quiet: bool,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Carry out the runs with the folder locked; return how each ended, and a sentence for each that failed."""
    loggers = (*experiment.loggers, *listening.loggers)
    check_loggers(loggers)
    shared = part is not None
    if (out / "experiment.yaml").exists():  # where another process is at work, there is nothing to check
        held.enter_context(locked(out, shared=shared))
    with checking(len(experiment.runs), quiet=quiet) as progress:
        setups = prepare(experiment, out, fresh=fresh, shared=shared, check=check_analysis, progress=progress)
    fewer = len(experiment.runs) - len(setups)
    if part is not None:
        setups = part.deal(setups)
    held.enter_context(locked(out, shared=shared))
    judged_by = {name: main_metric(setup.task) for name, setup in setups.items()}
    with TerminalMonitor(len(setups), quiet=quiet, judged_by=judged_by) as monitor, stopping(monitor.say) as stop:
        monitor.say(f"{how_many(len(setups))} into {out}{f'; {fewer} left out as impossible' if fewer else ''}")
        for line in about(setups.values()):
            monitor.say(line)
        with Feeds(loggers, out, several=len(setups) > 1, stage=listening.stage) as feeds:
            listeners = Listeners(monitor, out, feeds, listening.on_evaluate)
            states = simulate(setups, out, listeners, stop, measure_replica, shared=shared)
    return states, failures(out, states)
