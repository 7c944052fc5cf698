"""The trainings of a study: ordinary experiments in folders of their own, resumed and read back."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.analysis.statistics.replica_values import all_finals
from basinet.analysis.statistics.run_labels import strategy_label
from basinet.analysis.studies.study import TRAININGS, Progress
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.folder import Run, load_run
from basinet.sim.run.interruptions import stopping
from basinet.sim.run.records import Row
from basinet.sim.run.simulation import RunFailed, prepare, simulate

__all__ = ["Array", "Outcomes", "by_case", "carry_out"]

Array = NDArray[np.float64]


class _Teller:
    """Reports the progress of an experiment to a study.

    Args:
        progress: The study's callback.
        total: Number of runs of the experiment.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.total = total
        self.done = 0
        self.steps: dict[str, int] = {}

    def started(self, run: str, step: int, num_steps: int, agents: int, engine: str) -> None:
        self.steps[run] = num_steps

    def advanced(self, run: str, step: int, rows: list[Row]) -> None:
        self.progress((self.done + step / self.steps[run]) / self.total, run)

    def waiting(self, run: str, what: str) -> None:
        self.progress(self.done / self.total, f"{run}: waiting for {what}")

    def restarted(self, run: str, why: str) -> None:
        self.progress(self.done / self.total, f"{run}: taken up again: {why}")

    def analyzing(self, run: str, done: int, total: int, what: str) -> None:
        self.progress((self.done + 1) / self.total, f"{run}: {what or 'flatness'} of replica {done + 1} of {total}")

    def finished(self, run: str, state: str) -> None:
        self.done += 1
        self.progress(self.done / self.total, run)


def carry_out(folder: Path, name: str, description: Mapping[str, Any], progress: Progress) -> list[Run]:
    """Run and measure an experiment that belongs to a study.

    Finished runs are not repeated, and interrupted ones resume from their checkpoints.

    Args:
        folder: The folder of the study.
        name: Name of the experiment in it.
        description: The experiment.
        progress: Called with the fraction done and a description.

    Returns:
        Its runs.

    Raises:
        ExperimentError: If the experiment is invalid, or the folder holds another one.
        Interrupted: If it was interrupted; the same study resumes from there.
        RunFailed: If a run failed.
    """
    experiment = Experiment(description)
    out = folder / TRAININGS / name
    setups = prepare(experiment, out, check=check_analysis)
    teller = _Teller(progress, len(setups))
    with stopping(lambda text: progress(0.0, text)) as stop:
        states = simulate(setups, out, teller, stop, measure_replica)
    for run, state in states.items():
        if state == "failed":
            error = load_run(out / run).status["error"]
            raise RunFailed(f"{out / run} failed: {error} (traceback in {out / run / 'status.json'})")
    return [load_run(out / run) for run in states]


def by_case(runs: Iterable[Run]) -> dict[str, Run]:
    """Sort runs by their cases, of which no two have the same.

    Args:
        runs: The runs.

    Returns:
        The runs by case.
    """
    return {str(run.config["case"]): run for run in runs}


class Outcomes:
    """Final values of the trainings of experiments, by strategy and case.

    Args:
        runs: The trainings.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = {(strategy_label(run.config), run.config.get("case")): run for run in runs}

    def run(self, label: str, case: str) -> Run:
        """Look up a training.

        Args:
            label: The strategy.
            case: The case.

        Returns:
            The run.
        """
        return self._runs[label, case]

    def get(self, metric: str, label: str, case: str) -> Array:
        """Look up a metric of the centroids.

        Args:
            metric: Its name.
            label: The strategy.
            case: The case.

        Returns:
            One value per replica; NaN for those that diverged.
        """
        return np.array(all_finals(self.run(label, case), metric))

    def flatness(self, label: str, case: str) -> Array:
        """Look up the logarithm of λ_max, so that differences are log ratios; NaN if λ_max is not positive.

        Args:
            label: The strategy.
            case: The case.

        Returns:
            One value per replica.
        """
        return log(self.get("hessian_top_eigenvalue", label, case))


def log(values: Array) -> Array:
    """Compute logarithms of positive numbers.

    Args:
        values: Numbers.

    Returns:
        Their logarithms; NaN for those that are not positive.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.log(values), np.nan)
