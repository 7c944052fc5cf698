"""Agents that are absent when a file says so."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from basinet.sim.faults.fault import FAULTS, AgentFault, States
from basinet.topologies.policies.matrix_files import read_matrix

__all__ = ["Availability"]


@FAULTS.register("availability")
@dataclass(frozen=True, kw_only=True)
class Availability(AgentFault):
    """Absences recorded elsewhere; after the last step, they start anew. They are the same in all replicas.

    Args:
        rejoin: What an agent that returns goes on from: its own parameters, or the weighted mean of its "neighbors"'.
        path: The file: .csv (numbers separated by commas), .npy or .npz. A row says of each agent, in the graph's
            order, whether it takes part in a step: 1 or 0.
    """

    path: str

    def absences(self, keys: Tensor) -> States:
        """Return a function from the step to which agents are absent; see `AgentFault.absences`."""
        table, agents = read_matrix(self.path, "availability").toarray(), keys.shape[-1]
        if table.shape[1] != agents:
            raise ValueError(f"{self.path!r} has {table.shape[1]} columns, but there are {agents} agents")
        if not (len(table) and np.isin(table, (0, 1)).all()):
            raise ValueError(f"{self.path!r} must hold rows of zeros and ones")
        absent = torch.from_numpy(table == 0)
        return lambda step: absent[step % len(absent)].expand(keys.shape)
