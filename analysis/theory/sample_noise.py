"""The noise of a batch as that of independent samples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from basinet.sim.data.rows import Stored
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.setup.setup import Setup

__all__ = ["check_samples", "shares_of_noise"]

Array = NDArray[np.float64]


def check_samples(setup: Setup) -> None:
    """Raise if the gradient of a batch is not the mean of those of independent samples in memory.

    Args:
        setup: The parts of the run.

    Raises:
        ExperimentError: It is not; the message is one sentence.
    """
    if setup.config.gradient_noise is not None:
        raise ExperimentError("gradient_noise: theory covers only the noise of a batch of samples")
    if isinstance(setup.task.train, Stored):
        raise ExperimentError("task: theory covers only data in memory, and these are read when needed (lazy)")
    if setup.task.weighs or setup.task.mean_over == "batch":
        raise ExperimentError(
            "task: theory takes a batch as the mean of its samples, which all count alike, and this loss is not"
        )


def shares_of_noise(setup: Setup, held: Sequence[int]) -> Array:
    """Return what share of the noise of a sample that of a batch is.

    Args:
        setup: The parts of the run.
        held: How many samples each agent has; none for a task that generates them.

    Returns:
        A share for each agent [K].
    """
    share = np.full(setup.num_agents, 1 / setup.config.batch_size)
    if setup.config.sampling == "epochs" and held:
        share[setup.config.batch_size % np.array(held) == 0] = 0
    return share
