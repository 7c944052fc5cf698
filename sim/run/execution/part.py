"""A part of an experiment: its runs are dealt out to several jobs, which share the folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.pipeline import Pipeline
from basinet.sim.experiment.tuning.tuned_experiment import TunedExperiment
from basinet.sim.run.execution.twins import groups
from basinet.sim.run.records import FINISHED, load_record, load_status
from basinet.sim.setup.setup import Setup

__all__ = ["Part", "left_over"]


@dataclass(frozen=True)
class Part:
    """One of the jobs to which the runs of an experiment are dealt out.

    Attributes:
        number: Its number, from 1.
        of: Number of jobs.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, given: str, experiment: Experiment | Pipeline) -> Self:
        """Read a part.

        Args:
            given: K/N, the K-th of N.
            experiment: What it is a part of.

        Returns:
            The part.

        Raises:
            ExperimentError: It is none, or the experiment has no parts.
        """
        if isinstance(experiment, Pipeline | TunedExperiment):
            what = "stages follow one another" if isinstance(experiment, Pipeline) else "what is tuned is chosen first"
            raise ExperimentError(
                f"--part: got {given}, but {what}; allowed are experiments with neither stages nor tune"
            )
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", given)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ExperimentError(f"--part: got {given}; allowed are 1/N, 2/N, …, N/N for N jobs")
        return cls(int(found[1]), int(found[2]))

    def deal(self, setups: Mapping[str, Setup]) -> dict[str, Setup]:
        """Deal out the runs of an experiment, one after the other to each job; those with the same steps go together.

        Args:
            setups: The parts of each run by name.

        Returns:
            Those of this job.
        """
        return {name: setups[name] for names in groups(setups)[self.number - 1 :: self.of] for name in names}


def left_over(out: Path) -> tuple[str, ...]:
    """Look which runs of an experiment have neither finished nor failed.

    Args:
        out: The experiment's folder.

    Returns:
        Their names.
    """
    ended = (*FINISHED, "failed")
    return tuple(name for name in load_record(out)["runs"] if load_status(out / name)["state"] not in ended)
