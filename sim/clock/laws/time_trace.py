"""Recorded compute times."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from basinet.sim.clock.laws.compute_law import LAWS, ComputeLaw, Draw
from basinet.topologies.policies.matrix_files import read_matrix

__all__ = ["Trace"]


@LAWS.register("trace")
@dataclass(frozen=True, kw_only=True)
class Trace(ComputeLaw):
    """Times recorded elsewhere; after the last step, they start anew. All replicas take the same times.

    Args:
        path: The file: .csv (numbers separated by commas), .npy or .npz. A row holds the seconds that each agent
            takes in a step, in the graph's order.
    """

    path: str

    def sampler(self, keys: Tensor) -> Draw:
        """Return a function from the step to how long agents compute; see `ComputeLaw.sampler`."""
        seconds, agents = read_matrix(self.path, "the trace").toarray(), keys.shape[-1]
        if seconds.shape[1] != agents:
            raise ValueError(f"the trace: {self.path!r} has {seconds.shape[1]} columns, but there are {agents} agents")
        if not (len(seconds) and np.isfinite(seconds).all() and seconds.min() >= 0):
            raise ValueError(f"the trace: {self.path!r} must hold finite times, none of them negative")
        times = torch.from_numpy(seconds) * 1e9
        return lambda step: times[step % len(times)].expand(keys.shape)
