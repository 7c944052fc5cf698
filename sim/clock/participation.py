"""Which agents take part in the steps of a run whose strategy lets only some of them."""

from collections.abc import Callable

import numpy as np
import torch

from basinet.algorithms import draws
from basinet.algorithms.strategies.strategy import Participation
from basinet.sim.setup.setup import Setup

__all__ = ["taking_part"]


def taking_part(setup: Setup) -> Callable[[int], np.ndarray] | None:
    """Draw who takes part in a step as the strategy does in the run.

    Args:
        setup: The parts of the run.

    Returns:
        A function of the step, from 0, to whether each agent takes part, bool [R, K]; None if all always do.
    """
    strategy = setup.strategy()
    if not isinstance(strategy, Participation):
        return None
    drawing: Participation = strategy
    numbers = torch.meshgrid(torch.arange(setup.config.replicas), torch.arange(setup.num_agents), indexing="ij")
    keys = draws.agent_keys(setup.config.seed, "activation", *numbers)

    def active(step: int) -> np.ndarray:
        found: np.ndarray = drawing.active(draws.fold(keys, step)).numpy()
        return found

    return active
