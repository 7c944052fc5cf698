"""The Python interface: run an experiment, look at the results."""

import inspect
import io
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from basinet.analysis.report.page import list_html
from basinet.analysis.report.report import summary_html, write_report
from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.analysis.statistics.summary import summarize
from basinet.launch.progress_bar import TerminalMonitor, bar, checking, how_many
from basinet.sim.agents.state import load_checkpoint
from basinet.sim.experiment.component import ExperimentError, Kind, nearest
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment, override
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.run.files import discard, write_atomically
from basinet.sim.run.folder import Run, RunFolder, load_runs
from basinet.sim.run.interruptions import answering, stopping
from basinet.sim.run.lock import locked
from basinet.sim.run.records import load_record
from basinet.sim.run.simulation import RunFailed, prepare, simulate
from basinet.sim.runtimes.ranks import RankLostError
from basinet.sim.runtimes.torchrun import follows, together
from basinet.sim.setup.reached import trained_model
from basinet.sim.setup.setup import Setup

if TYPE_CHECKING:
    from basinet.analysis.studies import Findings

__all__ = ["Results", "compare", "export", "load", "reproduce", "run"]


@dataclass(frozen=True, repr=False)
class Results:
    """What an experiment has left on disk.

    Attributes:
        folder: The experiment's folder.
        report: Its report.
        states: How each run ended: done, diverged or failed.
        failures: A sentence for each run that failed: why, and where its traceback is.
        experiment: The experiment, if it was carried out in this process; its objects are not in the folder.
    """

    folder: Path
    report: Path
    states: dict[str, str]
    failures: tuple[str, ...] = ()
    experiment: Experiment | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in Counter(self.states.values()).items())
        return f"Results({str(self.folder)!r}: runs: {counts}; report: {str(self.report)!r})"

    def _repr_html_(self) -> str:
        """Show the summary in a notebook."""
        return summary_html(self.runs) + list_html([repr(self), *self.failures])

    @property
    def runs(self) -> list[Run]:
        """The runs, as read from disk."""
        return load_runs(self.folder)

    @property
    def impossible(self) -> dict[str, str]:
        """Why runs were left out, by their names, where the experiment skips what is impossible."""
        return dict(load_record(self.folder).get("impossible", {}))

    def summary(self) -> list[dict[str, Any]]:
        """Summarise the runs over their replicas.

        Returns:
            A row a run: see `basinet.analysis.statistics.summary.summarize`.
        """
        return summarize(self.runs)

    def model(
        self, run: str | Run, replica: int = 0, agent: int | str = "centroid", *, module: nn.Module | None = None
    ) -> nn.Module:
        """Take a trained model out of a finished run.

        Args:
            run: The run, or its name.
            replica: Whose model.
            agent: An agent's number; or "centroid", the honest agents' average, weighted as in the run: what its test
                loss and accuracy are measured at.
            module: A module of the run's model, to be copied, where the run cannot make one: its model or its data were
                given as objects, and this process has not carried it out.

        Returns:
            A plain module on the CPU, in evaluation mode, in the floating type of the run.

        Raises:
            ExperimentError: There is no such run, replica or agent, or its model cannot be made.
        """
        return _model(self, run, replica, agent, module, _KEYS)

    def state_dict(
        self, run: str | Run, replica: int = 0, agent: int | str = "centroid", *, module: nn.Module | None = None
    ) -> dict[str, Tensor]:
        """Take the values of a trained model out of a finished run.

        Args:
            run: As for `model`, like all others.
            replica: Whose model.
            agent: An agent's number, or "centroid".
            module: A module of the run's model.

        Returns:
            The model's state dict, which loads into a plain module: buffers and frozen parameters are in it.
        """
        return self.model(run, replica, agent, module=module).state_dict()


def run(
    experiment: Experiment | None = None,
    /,
    *,
    out: str | Path = "runs/experiment",
    fresh: bool = False,
    quiet: bool = False,
    **description: Any,
) -> Results:
    """Run an experiment, analyse its runs and write the report.

    The same experiment into the same folder goes on where it stopped and skips what is finished. Ctrl-C stops at
    the next occasion, with everything reached on disk.

    With the runtime "torchrun" every rank calls this, in a script that torchrun has started. The first rank carries the
    experiment out with the help of the others and writes its files; all of them return, or raise, the same at the end,
    the others as soon as the analysis is done, before the report is drawn.

    Args:
        experiment: An experiment; or give its keys as keywords.
        out: The experiment's folder.
        fresh: Whether to discard what the folder holds.
        quiet: Whether to show no progress.
        **description: Keys of an experiment, see `basinet.sim.experiment.config.Config`.

    Returns:
        What was written.

    Raises:
        ExperimentError: Something in the experiment is not allowed; nothing was written.
        Interrupted: It was stopped before its end; the message says where everything is that was reached.
        RunFailed: A run has failed; all others are finished, the report is written, and `results` has it all.
        OSError: The report cannot be written.
    """
    experiment = experiment or Experiment(description)
    out, on_ranks = Path(out), any(config.runtime.name == "torchrun" for config in experiment.runs.values())
    with ExitStack() as held:

        def carry_out() -> tuple[dict[str, str], tuple[str, ...]]:
            return _carry_out(experiment, out, held, fresh=fresh, quiet=quiet)

        states, failures = together(carry_out) if on_ranks else carry_out()
        # The other ranks have been let go: they need not wait for pictures.
        if not (on_ranks and follows()):
            try:
                write_report(out)
            except OSError as error:
                if not failures:
                    raise
                failures = *failures, f"the report cannot be written: {first_line(error)}"
        results = Results(out, out / "report.html", states, failures, experiment)
        if failures:
            if on_ranks:
                with suppress(RankLostError):
                    together(lambda: None)  # torchrun ends all ranks as soon as one has failed: not before the report
            raise RunFailed("\n".join(failures), results)
    return results


def _carry_out(
    experiment: Experiment, out: Path, held: ExitStack, *, fresh: bool, quiet: bool
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Carry out the runs and keep the folder locked; return how each ended, and a sentence for each that failed."""
    if (out / "experiment.yaml").exists():  # where another process is at work, there is nothing to check
        held.enter_context(locked(out))
    with checking(len(experiment.runs), quiet=quiet) as progress:
        setups = prepare(experiment, out, fresh=fresh, check=check_analysis, progress=progress)
    held.enter_context(locked(out))
    with TerminalMonitor(len(setups), quiet=quiet) as monitor, stopping(monitor.say) as stop:
        monitor.say(f"{how_many(len(setups))} into {out}")
        for loss in dict.fromkeys(setup.task.about_loss for setup in setups.values()):
            monitor.say(f"loss: {loss}")
        states = simulate(setups, out, monitor, stop, measure_replica)
    return states, _failures(out, states)


def load(folder: str | Path) -> Results:
    """Read the folder of an experiment, finished or not.

    Args:
        folder: A folder that `run` wrote, or that of a single run.

    Returns:
        What is in it.
    """
    folder = Path(folder)
    states = {run.name: str(run.status["state"]) for run in load_runs(folder)}
    return Results(folder, folder / "report.html", states, _failures(folder, states))


def export(folder: str | Path, file: str | Path, replica: int = 0, agent: int | str = "centroid") -> dict[str, Tensor]:
    """Write a trained model to a file, from which `torch.load` reads it with `weights_only=True`.

    Args:
        folder: The folder of a run.
        file: The file.
        replica: Whose model.
        agent: An agent's number, or "centroid".

    Returns:
        The state dict that was written.

    Raises:
        ExperimentError: There is no such model, or it cannot be written there.
    """
    results, file = load(folder), Path(file)
    if len(results.states) > 1:
        raise ExperimentError(f"RUN: {folder} holds several runs; give the folder of one: {', '.join(results.states)}")
    if file.is_dir():
        raise ExperimentError(f"--out: {file} is a folder; choose a file")
    state = _model(results, next(iter(results.states)), replica, agent, None, _OPTIONS).state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(file, buffer.getbuffer())
    return state


_KEYS = {"run": "run", "replica": "replica", "point": "agent", "step": "step"}
_OPTIONS = {"run": "RUN", "replica": "--replica", "point": "--agent", "step": "step"}
"""What messages call the parts of a place, in Python and on the command line."""


def _failures(folder: Path, states: Mapping[str, str]) -> tuple[str, ...]:
    """Say why runs have failed, and where they go on."""
    found = {run.name: run for run in load_runs(folder)}
    return tuple(
        f"{name} failed: {_reason(found[name])}; {_resumption(found[name].path)}"
        for name, state in states.items()
        if state == "failed"
    )


def _reason(run: Run) -> str:
    if run.status["state"] != "failed":
        return f"there is no room for {run.path / 'status.json'}, which would say why"
    return f"{run.status.get('error')} (traceback in {run.path / 'status.json'})"


def _resumption(run: Path) -> str:
    """Say where a run goes on."""
    folder = RunFolder(run)
    # Where a disk was full, there is but the last checkpoint but one.
    found = next((file for file in (folder.checkpoint, folder.before) if file.exists()), None)
    try:
        step = load_checkpoint(found)["step"] if found else 0
    except ExperimentError as damaged:
        return str(damaged)
    return f"the same command goes on from step {step}" if step else "the same command begins it anew"


def _model(
    results: Results, run: str | Run, replica: int, agent: int | str, module: nn.Module | None, keys: Mapping[str, str]
) -> nn.Module:
    """Take a model out of a run."""
    name = run if isinstance(run, str) else run.name
    found = next((known for known in results.runs if known.name == name), None)
    if found is None:
        raise ExperimentError(f"{keys['run']}: there is no run '{name}'; {nearest(name, results.states)}")
    if module is None:
        try:
            live = results.experiment
            # The model alone is wanted, which any machine can make.
            config = Config.parse({**found.config, "analysis": []}) if live is None else live.runs[name]
            here = config.runtime.model_copy(update={"name": "inline", "device": "cpu", "actors": 1})
            module = Setup.build(config.model_copy(update={"runtime": here})).plain_model()
        except ExperimentError as error:
            raise ExperimentError(
                f"{error}; from Python, basinet.load({str(results.folder)!r}).model(…, module=…) takes a module of the"
                " same structure instead"
            ) from error
    return trained_model(found.path, module, replica, agent, keys=keys)


def compare(*folders: str | Path) -> list[dict[str, Any]]:
    """Summarise the runs of several experiments side by side.

    Args:
        *folders: Folders that `run` wrote, or folders of single runs.

    Returns:
        A row a run: see `basinet.analysis.statistics.summary.summarize`.
    """
    return summarize([run for folder in folders for run in load_runs(folder)])


def reproduce(
    name: str, words: Sequence[str] = (), *, out: str | Path, fresh: bool = False, quiet: bool = False
) -> tuple["Findings", Path]:
    """Run a study and write what it finds.

    The findings are written at the end; until then the parts of the study that are finished are kept in a journal,
    and trainings as experiments of their own. What is finished is not done again by the same version.

    Args:
        name: A name in `basinet.analysis.studies.STUDIES`.
        words: Settings of the study, `key=value`.
        out: Where the findings go: a new folder, or one that holds a study, which is written over.
        fresh: Whether to discard what the folder holds of the study.
        quiet: Whether to show no progress.

    Returns:
        The findings, and the report.

    Raises:
        ExperimentError: There is no such study or setting, or the folder holds something else.
    """
    from basinet.analysis.studies import STUDIES, TRAININGS, check_folder, write_findings  # of use here alone
    from basinet.analysis.studies.journal import JOURNAL, journal

    if name not in STUDIES:
        raise ExperimentError(f"reproduce: there is no study '{name}'; {nearest(name, STUDIES)}")
    settings: dict[str, Any] = {}
    override(settings, words)
    study = Kind(name, STUDIES, ("progress", "folder")).parse({**settings, "name": name})
    out = Path(out)
    check_folder(out)
    supplied = {"folder": out} if "folder" in inspect.signature(study.target).parameters else {}
    command = shlex.join(["basinet", "reproduce", name, *words])
    begun = time.monotonic()
    with ExitStack() as held:
        if out.is_dir():  # else it is made, and locked, as soon as something is found: the settings may yet be refused
            held.enter_context(locked(out))
        if fresh:
            discard(out / TRAININGS)
            (out / JOURNAL).unlink(missing_ok=True)
        with bar(name, quiet=quiet) as progress, answering(_interrupt), journal(out, name):
            # Not by its `make`, which takes a ValueError for a mistake in the settings.
            findings: Findings = study.target(**supplied, progress=progress, **study.settings)
            return findings, write_findings(findings, out, command=command, seconds=time.monotonic() - begun)


def _interrupt(number: int) -> None:
    raise KeyboardInterrupt
