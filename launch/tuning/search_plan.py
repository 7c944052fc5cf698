"""What a search will do: the metric that judges candidates, where its rungs end, and how much it takes."""

from collections.abc import Iterator
from contextlib import contextmanager

from basinet.launch.progress_bar import how_many
from basinet.sim.evaluation.measuring import main_metric
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.experiment.tuning.tuned_experiment import TunedExperiment
from basinet.sim.experiment.tuning.tuning_request import beyond
from basinet.sim.run.quantity import Quantity, of_validation
from basinet.sim.run.simulation import build
from basinet.sim.setup.setup import Setup

__all__ = ["MOST_STEPS", "Judge", "about_search", "judged_by", "of_the_search", "rung_of"]

MOST_STEPS = 3
"""Most steps by which the values of a key are extended at each end."""


class Judge:
    """Checks that all runs of a search are measured by the metric that judges them, and knows which it is.

    Args:
        by: The metric asked for; None for the main one.
    """

    def __init__(self, by: str | None) -> None:
        self.by, self.metric, self.known = by, "", Quantity("")

    def __call__(self, setup: Setup) -> None:
        """Raise if a run of the search is not measured by the same metric as those before."""
        metric, known = judged_by(setup, self.by)
        if self.metric not in ("", metric):
            raise ExperimentError(f"by: some runs are judged by {self.metric}, others by {metric}; give one of them")
        self.metric, self.known = metric, known


@contextmanager
def of_the_search() -> Iterator[None]:
    """Say of mistakes that they are in the runs of the search.

    Yields:
        Nothing.

    Raises:
        ExperimentError: There is one.
    """
    try:
        yield
    except ExperimentError as error:
        raise ExperimentError(f"tune: {str(error).removeprefix('validation: ')}") from error


def judged_by(setup: Setup, by: str | None) -> tuple[str, Quantity]:
    """Find the metric that judges candidates.

    Args:
        setup: The parts of a run of the search.
        by: The metric asked for; None for the main one.

    Returns:
        The name of its values, and its description.

    Raises:
        ExperimentError: There is no such metric, or neither direction of it is better.
    """
    metric, known = main_metric(setup.task)
    if by is not None:
        place = "train" if setup.task.test is None else "test"
        names = [name for name in setup.quantities if name.startswith(f"{place}_")]
        short = [name.removeprefix(f"{place}_") for name in names]
        metric = by if by in names else f"{place}_{by}"
        if metric not in names:
            raise ExperimentError(f"by: got {by}; {nearest(by, short)}")
        known = setup.quantities[metric]
        known = of_validation(known) if setup.task.is_validation else known
    if known.direction is None:
        raise ExperimentError(f"by: neither small nor large values of {known.label} are better; give another metric")
    return metric, known


def about_search(tuned: TunedExperiment) -> str:
    """Check the runs that try the given values out, and say what the search takes.

    Args:
        tuned: The experiment.

    Returns:
        A sentence.

    Raises:
        ExperimentError: Something is impossible.
    """
    judge = Judge(tuned.tuning.by)
    with of_the_search():
        setups, _ = build(tuned.search(tuned.candidates)[0], check=judge)
    count, most = len(tuned.candidates), 1
    for values in tuned.tuning.values.values():
        most *= len(values) + MOST_STEPS * sum(beyond(values, up=up) is not None for up in (True, False))
    longest = max(setups.values(), key=lambda setup: setup.num_steps)
    rungs = [(rung_of(longest, share), keep) for share, keep in tuned.tuning.rungs(count)]
    rungs = [rung for rung, before in zip(rungs, [(0, 0), *rungs], strict=False) if before[0] < longest.num_steps]
    given = sum(keep * (end - begun) for (end, keep), (begun, _) in zip(rungs, [(0, 0), *rungs], strict=False))
    first, *further = rungs
    halved = "".join(f", {keep} of each choice to step {step:,}" for step, keep in further)
    further_steps = ""
    if most > count:
        added = (most - count) * longest.num_steps
        further_steps = f", and at most {(given + added) * len(tuned.runs):,} if the best values are at an edge"
    return (
        f"tuning: {count} candidates for each of {count_of(len(tuned.groups), 'choice')}, by the {judge.known.label} of"
        f" {count_of(tuned.tuning.replicas, 'replica')}: {how_many(len(setups))} to step {first[0]:,}{halved};"
        f" {given * len(tuned.runs):,} steps in all{further_steps}"
    )


def rung_of(setup: Setup, share: float) -> int:
    """Return the evaluation at which a rung ends.

    Args:
        setup: The parts of a run.
        share: The share of its schedule.

    Returns:
        The step.
    """
    every = setup.evaluate_every
    if share >= 1:
        return setup.num_steps
    return min(setup.num_steps, max(1, round(share * setup.num_steps / every)) * every)
