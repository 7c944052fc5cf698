"""How long each agent computes in each step."""

import numpy as np
import torch
from numpy.typing import NDArray

from basinet.algorithms import draws
from basinet.sim.clock.laws.compute_law import ComputeLaw

__all__ = ["ComputeTimes"]

_LONGEST = 2**53
"""Nanoseconds, 104 days: up to it, a float64 holds whole ones."""


class ComputeTimes:
    """Compute times in whole nanoseconds, drawn by (seed, replica, agent, "compute time", step).

    Args:
        law: Their law.
        agents: Number of agents K.
        replicas: Number of replicas R.
        seed: The experiment's seed.

    Raises:
        ValueError: The law is not one for so many agents.

    Example:
        >>> from basinet.sim.clock.laws import Constant
        >>> ComputeTimes(Constant(mean="20 ms"), agents=2)(5)
        array([[20000000, 20000000]])
    """

    def __init__(self, law: ComputeLaw, *, agents: int, replicas: int = 1, seed: int = 0) -> None:
        numbers = (
            torch.arange(replicas)[:, None].expand(replicas, agents),
            torch.arange(agents).expand(replicas, agents),
        )
        self._draw = law.sampler(draws.agent_keys(seed, "compute time", *numbers))

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Return how long agents compute in a step.

        Args:
            step: The step, from 0.

        Returns:
            Nanoseconds, int64 [R, K].

        Raises:
            ValueError: One takes more than 104 days.
        """
        times = self._draw(step)
        if not bool((times <= _LONGEST).all()):
            raise ValueError(
                f"step {step}: a gradient takes {float(times.max()) * 1e-9:.3g} s; at most 104 days can be"
            )
        whole: NDArray[np.int64] = times.round().to(torch.int64).numpy()
        return whole
