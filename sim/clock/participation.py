"""Which agents take no part in a step: they are out of order, or the strategy lets them be idle."""

from collections.abc import Callable

import numpy as np
import torch

from basinet.algorithms import draws
from basinet.algorithms.strategies.strategy import Participation
from basinet.sim.faults.outages import Outages
from basinet.sim.setup.setup import Setup

__all__ = ["absent"]


def absent(setup: Setup, outages: Outages) -> Callable[[int], np.ndarray | None]:
    """Find who takes no part in a step, by the draws of the run.

    Args:
        setup: The parts of the run.
        outages: What is out of order.

    Returns:
        A function of the step, from 0, to whether each agent is absent or idle, bool [R, K]; None if none can be.
    """
    strategy = setup.strategy()
    if not isinstance(strategy, Participation):
        return outages.absent
    drawing: Participation = strategy
    numbers = torch.meshgrid(torch.arange(setup.config.replicas), torch.arange(setup.num_agents), indexing="ij")
    keys = draws.agent_keys(setup.config.seed, "activation", *numbers)

    def find(step: int) -> np.ndarray:
        idle: np.ndarray = ~drawing.active(draws.fold(keys, step)).numpy()
        away = outages.absent(step)
        return idle if away is None else idle | away

    return find
